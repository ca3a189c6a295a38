"""A throw-away node: a real containerd, real registries, DNS, proxies and certificates, on no network at all.

Whether a diagnosis is right can only be seen on the real thing, and the real thing must neither need nor
touch anything outside. So the process first steps into namespaces of its own (`namespaces.enter`): no
interface but ``lo`` with a few addresses and a black hole, its own ``resolv.conf`` and ``hosts``. Everything
after that is a plain context manager which starts one real program or one scripted server there and leaves
nothing behind:

    enter()
    authority = Authority()
    with (
        Nameserver({"registry.example": "10.99.0.2"}),
        Registry(tmp / "registry", certificate=authority.issue("registry.example")) as registry,
        Containerd(tmp / "node") as containerd,
    ):
        registry.push("team/app", "1", image(layer({"bin/app": b"..."})))
        containerd.trust(registry.name, authority.pem)
        containerd.pull("registry.example/team/app:1")

Real programs where their behaviour is the point (containerd, docker-registry, dnsmasq, tinyproxy); scripted
servers (`hostile`, `ScriptedNameserver`, `ScriptedProxy`, `TokenServer`) for what a real one never does on
request. Scripted servers run on daemon threads of their own, so they serve synchronous and asynchronous
callers alike.
"""
