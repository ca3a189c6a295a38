"""Causes on the way from this node to the registry: network, TLS, proxy.

Each entry: title, meaning, then the steps. They are to be run on the node: a pod's resolver, proxy and trust store
are others than containerd's.
"""

from collections.abc import Mapping

from agent.causes import Cause

WAY: Mapping[Cause, tuple[str, ...]] = {
    Cause.DNS_NOT_FOUND: (
        "host name that DNS does not know",
        (
            "The node's resolver says that the registry's name does not exist or has no address. The name is "
            "misspelt, or it is known only elsewhere: containerd uses the node's DNS, so names of cluster "
            "services do not resolve."
        ),
        "On the node: getent hosts HOST; dig HOST; cat /etc/resolv.conf",
        "Correct the image's host, add the record, or point the node at a resolver that knows the internal zone.",
    ),
    Cause.DNS_FAILURE: (
        "name server that fails or does not answer",
        (
            "The node could not look up the registry's name: the name server is down, refuses, or its answers "
            "are lost. It says nothing about whether the name exists."
        ),
        "On the node: dig @NAMESERVER HOST; resolvectl status; cat /etc/resolv.conf",
        "Restart or replace the name server (systemctl restart systemd-resolved), open port 53 for UDP and TCP.",
        "If A answers and AAAA is dropped, mend that too: a lookup waits for both.",
    ),
    Cause.CONNECT_REFUSED: (
        "connection refused",
        (
            "The address was reached, but nothing listens on that port or a firewall rejects it. Wrong port, "
            "stopped registry, or a NodePort or ClusterIP without a backend."
        ),
        "On the node: curl -v https://HOST:PORT/v2/; if HOST is a mirror, see /etc/containerd/certs.d/*/hosts.toml",
        "Start the registry or correct the port in the image name or hosts.toml.",
    ),
    Cause.CONNECT_TIMEOUT: (
        "registry that cannot be reached",
        (
            "No connection came about: packets are dropped or there is no route. Most often a firewall or "
            "security group, a missing proxy setting of containerd, or IPv6 that is announced but does not "
            "work."
        ),
        "On the node: curl -4v https://HOST/v2/; curl -6v https://HOST/v2/; ip route get ADDRESS",
        "Open the way to HOST port 443 for this node, or give containerd the proxy and restart it.",
        "If only -6 fails, mend or switch off IPv6; the error shows the first address only.",
    ),
    Cause.CONNECTION_INTERRUPTED: (
        "connection cut in the middle",
        (
            "A connection stood and was reset or closed. A filter between, a load balancer's idle limit, an MTU "
            "that is too large, or a registry that restarts."
        ),
        "Repeat from the node: curl -v -o /dev/null https://HOST/v2/PATH/blobs/DIGEST",
        "Compare with another node; if one only, test the MTU: ping -M do -s 1372 HOST",
        "Raise idle and size limits of the proxy or load balancer before the registry.",
    ),
    Cause.PULL_TIMEOUT: (
        "pull that made no progress",
        (
            "containerd ended the pull because no byte came for its image_pull_progress_timeout (5 minutes by "
            "default), or the registry stayed silent. It reads 'context canceled'; the kubelet itself sets no "
            "limit on a pull."
        ),
        "See which it was: journalctl -u containerd | grep -E 'no progress in|cancel pulling'",
        (
            "Measure the download from the node: curl -o /dev/null -w '%{speed_download}\\n' "
            "https://HOST/v2/PATH/blobs/DIGEST"
        ),
        "Remove slow mirrors from /etc/containerd/certs.d; raise image_pull_progress_timeout and restart containerd.",
    ),
    Cause.TLS_UNKNOWN_AUTHORITY: (
        "certificate of an authority that this node does not trust",
        (
            "The registry's certificate leads to no trusted root: private or self-signed authority, an "
            "intermediate that the server does not send, or a proxy that opens TLS."
        ),
        "See who issued it: openssl s_client -connect HOST:443 -servername HOST -showcerts </dev/null",
        'Best: put the CA in /etc/containerd/certs.d/HOST/hosts.toml (ca = "/path/ca.crt"); no restart is needed.',
        "Or add it to the node's trust store (update-ca-certificates) and systemctl restart containerd.",
        "If an intermediate is missing, install the full chain on the registry.",
    ),
    Cause.TLS_EXPIRED: (
        "certificate that has expired",
        "The node's clock is after the end of the registry's certificate, or of one of its authorities.",
        "First check the clock: timedatectl; date -u",
        "openssl s_client -connect HOST:443 -servername HOST </dev/null | openssl x509 -noout -dates",
        "Renew the certificate on the registry (or proxy) and reload it.",
    ),
    Cause.TLS_NOT_YET_VALID: (
        "certificate that is not valid yet",
        (
            "The node's clock is before the start of the certificate. Nearly always the clock is slow; now and "
            "then a certificate was made on a machine whose clock is fast."
        ),
        "timedatectl; chronyc tracking; chronyc makestep",
        "If the clock is right, wait for or replace the certificate: openssl x509 -noout -dates",
    ),
    Cause.TLS_NAME_MISMATCH: (
        "certificate for another name",
        (
            "The certificate does not list the host by which the registry is addressed. Only subject "
            "alternative names count; an IP address needs an IP entry, and the common name is never looked at."
        ),
        "openssl s_client -connect HOST:443 -servername HOST </dev/null | openssl x509 -noout -ext subjectAltName",
        "Use a name that the certificate lists in the image, or issue one with the right names.",
    ),
    Cause.TLS_CLIENT_CERTIFICATE: (
        "client certificate missing or refused",
        (
            "The registry asks for a client certificate and this node presents none, or one that the registry "
            "does not accept."
        ),
        'Set client = [["/path/client.cert", "/path/client.key"]] in /etc/containerd/certs.d/HOST/hosts.toml',
        "Check its dates and issuer: openssl x509 -noout -dates -issuer -in /path/client.cert",
    ),
    Cause.TLS_HANDSHAKE: (
        "TLS that does not come about",
        (
            "The two sides could not agree or the handshake stalled: the server offers only TLS 1.1 or old "
            "ciphers, has no certificate for this name, or a filter or a too large MTU swallows packets."
        ),
        "openssl s_client -connect HOST:443 -servername HOST -tls1_2 </dev/null",
        "Update the server's TLS settings; containerd needs TLS 1.2 or later with ECDHE.",
        "If it stalls, test the MTU: ping -M do -s 1372 HOST",
    ),
    Cause.HTTP_HTTPS_MISMATCH: (
        "HTTP spoken where HTTPS is, or the other way round",
        "containerd and the port do not speak the same: it used https on a plain HTTP port, or http on a TLS port.",
        "curl -sSi http://HOST:PORT/v2/; curl -ksSi https://HOST:PORT/v2/",
        (
            'For plain HTTP put [host."http://HOST:PORT"] into /etc/containerd/certs.d/HOST:PORT/hosts.toml; '
            "better, give the registry TLS."
        ),
    ),
    Cause.CLOCK_SKEW: (
        "clock of this node that is wrong",
        "The node's time is so far off that certificates, tokens or signed links look expired or not yet valid.",
        "timedatectl; chronyc tracking",
        "chronyc makestep (or systemctl restart systemd-timesyncd), and open UDP 123 to the time server.",
    ),
    Cause.PROXY_UNREACHABLE: (
        "proxy that cannot be reached",
        "containerd is set to use a proxy and could not get to the proxy itself: wrong name or port, or it is down.",
        "See what the process has: tr '\\0' '\\n' </proc/$(pidof -s containerd)/environ | grep -i proxy",
        "From the node: curl -v -x PROXY https://HOST/v2/",
        (
            "Correct /etc/systemd/system/containerd.service.d/*.conf; systemctl daemon-reload; systemctl "
            "restart containerd"
        ),
    ),
    Cause.PROXY_AUTH_REQUIRED: (
        "proxy that wants credentials",
        (
            "The proxy answers 407. containerd can send only a user and password from the proxy URL (Basic); "
            "NTLM and Kerberos do not work."
        ),
        "Put USER:PASSWORD@ into HTTPS_PROXY of containerd, special characters as %XX (in a systemd unit: %%XX).",
        "Or have the proxy let this node's address through without a password; then systemctl restart containerd.",
    ),
    Cause.PROXY_REFUSED: (
        "proxy that refuses this registry",
        (
            "The proxy was reached and would not open the tunnel: the host is not on its list, or the proxy "
            "cannot reach or resolve it."
        ),
        "curl -v -x PROXY https://HOST/v2/",
        "Allow the registry, its token host and its storage or CDN host in the proxy.",
        "An internal registry belongs in NO_PROXY of containerd instead; restart containerd after the change.",
    ),
    Cause.PROXY_MISCONFIGURED: (
        "proxy setting that is broken",
        (
            "The proxy URL in containerd's environment is not what was meant: unescaped characters in the "
            "password or quotes make the host 'http', or https:// is given for a proxy that speaks plain HTTP."
        ),
        "tr '\\0' '\\n' </proc/$(pidof -s containerd)/environ | grep -i proxy",
        "Write HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT, special characters as %XX (in a systemd unit: %%XX).",
        "systemctl daemon-reload; systemctl restart containerd",
    ),
    Cause.NO_PROXY_GAP: (
        "internal registry sent through the proxy",
        (
            "The registry can be reached directly, but NO_PROXY does not cover it. Blanks and ';' do not "
            "separate entries, CIDR entries match only hosts written as an address, and *foo.com has no effect."
        ),
        "tr '\\0' '\\n' </proc/$(pidof -s containerd)/environ | grep -i no_proxy",
        "Add HOST or .DOMAIN, comma-separated; systemctl daemon-reload; systemctl restart containerd",
    ),
}
