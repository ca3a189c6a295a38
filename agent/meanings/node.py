"""Causes on the node itself: runtime, disk, cache, and the one that is none.

Each entry: title, meaning, then the steps. What truly repairs a cached image is not obvious (deleting and pulling
again often reuses the damaged part), so cache causes lead to ``node-agent repair``, which proves its result.
"""

from collections.abc import Mapping

from agent.causes import Cause

NODE: Mapping[Cause, tuple[str, ...]] = {
    Cause.HOSTS_CONFIG_INVALID: (
        "registry settings of containerd that are broken",
        (
            "A hosts.toml, or a CA or key that it names, cannot be read, or it leaves no host that may resolve. "
            "A file with a syntax error is only logged and dropped; a bad certificate file fails the pull."
        ),
        "journalctl -u containerd | grep -E 'hosts.toml|CA cert|X509 key pair|config_path'",
        "Correct /etc/containerd/certs.d/HOST/hosts.toml and the files it names; edits need no restart.",
        (
            "With config_path set remove mirrors from config.toml (both together stop the CRI plugin) and "
            "restart containerd."
        ),
    ),
    Cause.HOSTS_CONFIG_IGNORED: (
        "registry settings that containerd does not look at",
        (
            "The settings are there, but this containerd does not use them: config_path is empty before 2.2, a "
            "list 'a:b' is taken as one directory since 2.1, or a file with only server= is dropped before 1.7."
        ),
        "containerd config dump | grep -A3 config_path; node-agent node",
        (
            "Set config_path to one directory (/etc/containerd/certs.d) in the section of this version, then "
            "systemctl restart containerd."
        ),
    ),
    Cause.MIRROR_FAILING: (
        "mirror that fails",
        (
            "A mirror from hosts.toml fails. containerd goes on to the next host, slowly, and 1.x shows the "
            "mirror's error in place of the upstream's; a mirror also gets the upstream's credentials and may "
            "reject them."
        ),
        "journalctl -u containerd | grep 'trying next host'",
        "curl -v https://MIRROR/v2/ from the node; mend it or take it out of /etc/containerd/certs.d/HOST/hosts.toml",
    ),
    Cause.RUNTIME_UNAVAILABLE: (
        "container runtime that does not answer",
        (
            "The kubelet cannot speak to the runtime: it is stopped or restarting, its socket is gone, or its "
            "CRI plugin did not load (config_path together with mirrors does that)."
        ),
        (
            "systemctl status containerd; crictl info; journalctl -u containerd -b | grep -iE 'failed to load "
            "plugin|fatal'"
        ),
        "Mend what the journal names, then systemctl restart containerd",
    ),
    Cause.RUNTIME_ERROR: (
        "error inside the container runtime",
        (
            "The runtime itself failed: no file handles or memory, a lease or snapshotter that is gone, an "
            "answer that is too large. The registry has no part in it."
        ),
        "journalctl -u containerd --since -15min | grep -iE 'level=(error|fatal)'",
        (
            "Check memory and limits (systemctl show containerd -p LimitNOFILE,MemoryCurrent), then systemctl "
            "restart containerd"
        ),
    ),
    Cause.UNPACK_FAILED: (
        "layer that cannot be unpacked",
        (
            "The image was downloaded, but a layer could not be written to the node's file system: no right to "
            "do so, user ids outside the mapped range, a file system without what overlayfs needs, or a layer "
            "built wrongly."
        ),
        "journalctl -u containerd | grep -iE 'extract|apply|snapshot'; findmnt -T /var/lib/containerd",
        "Try the image on another node: if it fails there too, build and push it again.",
        "If only here: node-agent repair IMAGE, and check the file system and security module (dmesg -T | tail).",
    ),
    Cause.POLICY_BLOCKED: (
        "pull that a policy forbids",
        (
            "A rule on this node does not let the image in: signature policy, image verifier, or "
            "imagePullPolicy Never with no usable copy on the node."
        ),
        "See which rule: journalctl -u containerd -u crio | grep -iE 'verifier|signature|rejected'",
        "Sign the image or correct the policy (/etc/containers/policy.json, containerd's verifier directory).",
        "For Never, load the image onto the node or set imagePullPolicy: IfNotPresent.",
    ),
    Cause.THROTTLED_LOCALLY: (
        "kubelet's own limit on pulls",
        (
            "The kubelet refused the pull because of registryPullQPS and registryBurst; the registry was not "
            "asked. It goes by itself once fewer pods start at a time."
        ),
        (
            "Wait for the back-off, or raise registryPullQPS and registryBurst in /var/lib/kubelet/config.yaml "
            "and systemctl restart kubelet"
        ),
    ),
    Cause.DISK_FULL: (
        "full disk",
        (
            "The file system of images has no room, no free inodes or no quota left. A pull needs the "
            "compressed layer and its unpacked files at once."
        ),
        "df -h /var/lib/containerd; df -i /var/lib/containerd; crictl imagefsinfo",
        "Free room: crictl rmi --prune; then look at logs and emptyDir volumes: du -xhd1 /var/lib | sort -h",
    ),
    Cause.DISK_TOO_SMALL: (
        "image too large for the free disk",
        "The image's layers, downloaded and unpacked, need more than is free on this node now.",
        "df -h /var/lib/containerd; crane manifest IMAGE | jq '[.layers[].size]|add'",
        "Free room (crictl rmi --prune), enlarge the disk, or make the image smaller.",
    ),
    Cause.DISK_READ_ONLY: (
        "read-only file system",
        "The file system of images is mounted read-only. The kernel does so by itself after errors of the disk.",
        "dmesg -T | grep -iE 'remount|I/O error|EXT4-fs|XFS'; findmnt -T /var/lib/containerd",
        "kubectl drain NODE --ignore-daemonsets, repair or replace the disk, reboot, then node-agent verify",
    ),
    Cause.CACHE_CORRUPT: (
        "cached image that is damaged",
        (
            "The copy on this node is damaged and the text does not tell in which part. Pulling again often "
            "mends nothing, since what is there is reused."
        ),
        "Find the part: node-agent verify IMAGE",
        "node-agent repair IMAGE; look for disk errors: dmesg -T | grep -i 'I/O error'",
    ),
    Cause.BLOB_CORRUPT: (
        "cached blob with wrong content",
        (
            "A manifest, config or layer file in the content store is not what its digest says. The runtime "
            "opens blobs without hashing them and takes the bad file again at the next pull."
        ),
        "node-agent verify --depth blobs IMAGE",
        "node-agent repair IMAGE; look for disk errors: dmesg -T | grep -i 'I/O error'",
    ),
    Cause.BLOB_TRUNCATED: (
        "cached blob that is cut short",
        (
            "A file in the content store is shorter than it should be, or empty. Typical after power loss or a "
            "reset soon after a pull."
        ),
        "node-agent verify --depth blobs IMAGE; last -x reboot shutdown | head",
        "node-agent repair IMAGE; against the next time set image_pull_with_sync_fs = true in containerd (1.7+).",
    ),
    Cause.BLOB_MISSING: (
        "cached blob that is gone",
        (
            "The runtime's database names a blob that is not in the content store: lost at a power cut, removed "
            "by hand, or discarded after unpacking and needed again."
        ),
        "node-agent verify IMAGE; containerd config dump | grep discard_unpacked_layers",
        "node-agent repair IMAGE (fetches it again and proves it).",
    ),
    Cause.SNAPSHOT_MISSING: (
        "unpacked layer that is gone",
        (
            "The directory or record of an unpacked layer is missing, while the image still counts as present. "
            "Pulling again does not unpack it anew where the record is left."
        ),
        "node-agent repair IMAGE (unpacks it again from the blobs on this node)",
        "Where pods use it: kubectl drain NODE first. Never delete in .../snapshots by hand.",
    ),
    Cause.SNAPSHOT_CORRUPT: (
        "unpacked layer with wrong files",
        (
            "Files that containers of this image run are not those of its layer: changed, empty, lost or extra. "
            "The runtime never looks; typical after power loss."
        ),
        "node-agent repair IMAGE (unpacks it again from the blobs on this node, and proves it)",
        (
            "Where pods use it, delete them or kubectl drain NODE first; repair.in_use: replace-files mends the files "
            "under them."
        ),
        "last -x reboot shutdown | head; then set image_pull_with_sync_fs = true in containerd (1.7+)",
    ),
    Cause.METADATA_BROKEN: (
        "runtime's databases that contradict each other",
        (
            "containerd's records of the image do not fit together: one is gone, names the wrong layers, is unknown "
            "to CRI, or its snapshotter has lost it. Only the last cannot be mended through the runtime's interface."
        ),
        "node-agent repair IMAGE mends all but that, and says so.",
        "Else kubectl drain NODE --ignore-daemonsets; systemctl stop kubelet containerd",
        "Move /var/lib/containerd aside, then systemctl start containerd kubelet; kubectl uncordon NODE",
    ),
    Cause.INGEST_STUCK: (
        "download that holds its place and does not move",
        (
            "Another pull of the same layer holds the lock on its partial download, or a partial download is "
            "bad and is resumed for ever."
        ),
        "node-agent repair (throws bad parts away), or by hand: ctr -n k8s.io content active",
        "journalctl -u containerd | grep -E 'locked for|failed commit': systemctl restart containerd frees the lock.",
    ),
    Cause.UNKNOWN: (
        "cause that the text does not tell",
        "The text holds only a wrapper, was cut before the reason, or is not known here.",
        "Let the node try: node-agent diagnose IMAGE",
        "Read what came before: kubectl -n NAMESPACE describe pod POD; journalctl -u containerd | grep IMAGE",
    ),
}
