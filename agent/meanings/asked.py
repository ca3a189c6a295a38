"""Causes in what was asked for: the image, the credentials, and what the registry holds.

Each entry: title, meaning, then the steps. Registry habits are those documented or seen for Docker Hub, GHCR, Quay,
ECR, Artifact Registry, ACR and Harbor.
"""

from collections.abc import Mapping

from agent.causes import Cause

ASKED: Mapping[Cause, tuple[str, ...]] = {
    Cause.INVALID_REFERENCE: (
        "image name that cannot be parsed",
        (
            "The kubelet or containerd refused the image string before any network was used. Usual slips: upper "
            "case in the path, a leading https://, a blank or line break, an empty tag, a variable that was "
            "never filled in."
        ),
        "See the exact string: kubectl -n NAMESPACE get pod POD -o jsonpath='{.spec.containers[*].image}' | cat -A",
        "Write it as HOST[:PORT]/PATH[:TAG][@sha256:DIGEST], path in lower case, no scheme, and apply the workload.",
    ),
    Cause.IMAGE_NOT_FOUND: (
        "image not found: repository, tag or digest",
        (
            "Every host that was asked answered 404, which does not say whether the repository, the tag or the "
            "digest is missing. Some registries also answer 404 for a private repository."
        ),
        "Ask the registry what it has: crane ls HOST/PATH (or skopeo list-tags docker://HOST/PATH).",
        "Compare host, path and tag with what the build pushed; a name without a host means docker.io.",
        "Correct it: kubectl -n NAMESPACE set image deployment/NAME CONTAINER=IMAGE",
    ),
    Cause.REPOSITORY_NOT_FOUND: (
        "repository that the registry does not know",
        (
            "The registry says that it has no repository of that name. The path is misspelt, a project or "
            "organisation is missing in it, or nothing was ever pushed there."
        ),
        "Compare the path with what the build pushed: crane catalog HOST | grep PATH",
        "Create the repository (ECR and Artifact Registry need that first) or correct the image in the workload.",
    ),
    Cause.TAG_NOT_FOUND: (
        "tag that does not exist in the repository",
        (
            "The repository can be read, but it has no such tag. The tag was never pushed, was misspelt, or was "
            "removed by a retention rule."
        ),
        "List the tags: crane ls HOST/PATH",
        "Push the tag again or name one that exists: kubectl -n NAMESPACE set image deployment/NAME CONTAINER=IMAGE",
    ),
    Cause.DIGEST_NOT_FOUND: (
        "digest that the repository does not have",
        (
            "The image is asked for by digest and the registry has no such manifest there. It was "
            "garbage-collected, lives in another repository, or the digest is that of a local build. A tag "
            "beside a digest is not looked at."
        ),
        "See which digest the tag has now: crane digest HOST/PATH:TAG",
        "Put that digest (or only the tag) into the workload, and keep digests in use out of the registry's clean-up.",
    ),
    Cause.PLATFORM_MISMATCH: (
        "image without a build for this node's platform",
        (
            "The image exists, but no entry in it fits this node's operating system and architecture. An "
            "amd64/v2 or v3 entry does not match an amd64 node; a single-platform image is not checked and dies "
            "with 'exec format error'."
        ),
        "See what it offers: crane manifest IMAGE; and what the node is: kubectl get node NODE -L kubernetes.io/arch",
        "Build for the node too: docker buildx build --platform linux/amd64,linux/arm64 --push -t IMAGE .",
        "Or keep the pod off this node with a nodeSelector on kubernetes.io/arch.",
    ),
    Cause.UNSUPPORTED_MANIFEST: (
        "manifest of a kind that this runtime cannot use",
        (
            "What stands under the name is no image for this containerd: a schema 1 manifest (refused since "
            "2.1), an encrypted image, a Helm chart or another artifact."
        ),
        "See the kind: crane manifest IMAGE | head -c 400",
        "For schema 1, push it again with a present-day tool: skopeo copy --format oci docker://IMAGE docker://IMAGE",
        "For a chart or another artifact, correct the image name in the workload.",
    ),
    Cause.AUTH_MISSING_OR_DENIED: (
        "access that the registry does not give",
        (
            "The registry gives no access, and its answer does not tell whether credentials are missing or "
            "refused. On Docker Hub, GHCR and Quay a private repository and one that does not exist look alike, "
            "so check the name too."
        ),
        "Does the pod have a pull secret? kubectl -n NAMESPACE get pod POD -o jsonpath='{.spec.imagePullSecrets}'",
        "Try without and with the credentials: crane manifest IMAGE, then crane auth login HOST and again.",
        "If neither works, check the spelling of the repository; if only yours works, put them in the pull secret.",
    ),
    Cause.AUTH_REQUIRED: (
        "credentials needed, none were used",
        (
            "The registry wants credentials and the pull was tried without any: no pull secret matched and the "
            "node has none. A failing credential plugin of the kubelet is only logged and looks the same; on "
            "GHCR so does a repository that does not exist."
        ),
        (
            "kubectl -n NAMESPACE create secret docker-registry NAME --docker-server=HOST "
            "--docker-username=USER --docker-password=TOKEN"
        ),
        (
            "Name it under spec.imagePullSecrets of the pod template; a change to the ServiceAccount reaches "
            "new pods only."
        ),
        "On a cloud registry look for the plugin's error: journalctl -u kubelet | grep -i 'credential provider'",
    ),
    Cause.AUTH_DENIED: (
        "credentials refused",
        (
            "Credentials were sent and the registry refused them: wrong password, revoked token, or a user "
            "without permission to pull. After refused credentials nothing tries without any, so even a public "
            "image fails."
        ),
        (
            "See what is sent: kubectl -n NAMESPACE get secret NAME -o jsonpath='{.data.\\.dockerconfigjson}' | "
            "base64 -d | jq '.auths|map_values(.username)'"
        ),
        "Prove it elsewhere: crane auth login HOST -u USER -p TOKEN && crane manifest IMAGE",
        "Renew the secret or grant pull permission; for a public image remove the stale secret from the pod.",
    ),
    Cause.CREDENTIALS_EXPIRED: (
        "credentials that have expired",
        (
            "The token was valid once and its time is over. ECR passwords last 12 hours, so a secret made by "
            "hand from one fails the same evening."
        ),
        "Renew the secret with a fresh token, then kubectl -n NAMESPACE delete pod POD so that it tries at once.",
        "Use the cloud's kubelet credential provider, or an operator that renews the secret, instead of a fixed token.",
    ),
    Cause.SECRET_MISSING: (
        "pull secret that does not exist",
        (
            "The pod names a pull secret that is not in its namespace. The kubelet says so in an event and "
            "pulls on without it, so what fails in the end looks like denied access."
        ),
        "kubectl -n NAMESPACE get secret; kubectl -n NAMESPACE get pod POD -o jsonpath='{.spec.imagePullSecrets}'",
        "Create the secret under that name in the pod's namespace, or correct the name in the pod template.",
    ),
    Cause.SECRET_IN_OTHER_NAMESPACE: (
        "pull secret that exists only in another namespace",
        "A secret of that name exists, but a pod can use only the secrets of its own namespace.",
        "kubectl get secret -A --field-selector metadata.name=NAME",
        (
            "Copy it, without metadata of the other: kubectl -n OTHER get secret NAME -o json | jq "
            "'{apiVersion,kind,type,data,metadata:{name:.metadata.name}}' | kubectl -n NAMESPACE apply -f -"
        ),
    ),
    Cause.SECRET_MALFORMED: (
        "pull secret that cannot be read",
        (
            "A pull secret's content is no valid JSON, or its auth field is not base64 of user:password. One "
            "broken secret makes the kubelet give up all of the pod's credentials."
        ),
        (
            "Read each one: kubectl -n NAMESPACE get secret NAME -o jsonpath='{.data.\\.dockerconfigjson}' | "
            "base64 -d | jq empty"
        ),
        (
            "Make it anew with kubectl create secret docker-registry; type and key must be "
            "kubernetes.io/dockerconfigjson and .dockerconfigjson."
        ),
    ),
    Cause.SECRET_NOT_FOR_REGISTRY: (
        "pull secret that does not match this registry",
        (
            "The pod has pull secrets, but none has a key for this image's host and path, so none is sent. "
            "Ports must be equal, *.io does not match a.b.io, and registry-1.docker.io or "
            "https://index.docker.io/v1 (no final slash) never matches."
        ),
        (
            "See the keys: kubectl -n NAMESPACE get secret NAME -o jsonpath='{.data.\\.dockerconfigjson}' | "
            "base64 -d | jq '.auths|keys'"
        ),
        "Make the key the image's own HOST[:PORT]; for Docker Hub https://index.docker.io/v1/ with the final slash.",
    ),
    Cause.RATE_LIMITED: (
        "rate limit of the registry",
        (
            "The registry answers 429: too many pulls or requests from this address or account. Docker Hub "
            "counts nodes behind one NAT address, or in one IPv6 /64, together."
        ),
        "Wait for the time that the registry names (Retry-After); deleting pods only asks more often.",
        'See what is left: curl -sI -H "Authorization: Bearer $TOKEN" HOST/v2/PATH/manifests/TAG | grep -i ratelimit',
        "Pull with an account (imagePullSecrets) or through a mirror in /etc/containerd/certs.d/HOST/hosts.toml.",
    ),
    Cause.REGISTRY_ERROR: (
        "registry that fails or does not answer as a registry",
        (
            "Something answered at the registry's address, but with a server error or with what no registry "
            "would say. A login page, a captive portal or a load balancer without a backend looks like this as "
            "well."
        ),
        "From the node: curl -sSi https://HOST/v2/ (a registry answers 200 or 401 and no HTML).",
        "Is it everywhere? See the registry's status page, or its pods and logs if it is yours.",
        "If HTML comes back, sign the network in or except HOST in the proxy or portal.",
    ),
    Cause.BLOB_FORBIDDEN: (
        "layers that may not be downloaded",
        (
            "The manifest can be read, but the storage that the registry sends the download to refuses. Often "
            "the storage or CDN host is blocked on the way out, or a signed link is over because the clock is "
            "wrong."
        ),
        (
            'See the storage host: curl -sI https://HOST/v2/PATH/blobs/DIGEST -H "Authorization: Bearer $TOKEN" '
            "| grep -i location"
        ),
        "Let that host through the proxy or firewall; on the node check timedatectl.",
        "If the registry is yours, check its own permissions on the storage bucket.",
    ),
    Cause.REGISTRY_CONTENT_CORRUPT: (
        "content that is not what its digest says",
        (
            "What arrived is not what the manifest names: bytes were changed or cut on the way (proxy, cache, "
            "load balancer), or the registry's storage is damaged or lacks a part of the image."
        ),
        (
            "Fetch from another network: crane blob HOST/PATH@DIGEST | sha256sum. If that is wrong too, push "
            "the image again."
        ),
        "If it is right there, go round or flush the proxy or pull-through cache that this node uses.",
        (
            "If only this node repeats it, it keeps a bad part in /var/lib/containerd/io.containerd.content.v1.content/"
            "ingest: stop containerd, empty that folder, start it."
        ),
    ),
}
