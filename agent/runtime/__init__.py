"""The door to the container runtime: CRI, and for containerd its content store, images, snapshots and leases.

Nothing of gRPC leaves this folder: what is absent is ``None``, what went wrong is a `Fault`.
"""
