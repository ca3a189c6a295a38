"""The door to registries: names, credentials, hosts, transport, tokens, manifests and blobs.

It speaks h11 over sockets of its own and reads certificates with cryptography; nothing outside this
package does. What the outside gets wrong is raised as `agent.model.Fault`, named by its cause.
"""
