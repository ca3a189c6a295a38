"""The door to the host: what containerd sees on this node, read from where containerd sees it.

Nothing here reads the agent's own environment or settings: paths, environments and limits are passed in.
Answers come in the words of `agent.model`; a trouble that has a name in the list of causes is a `Fault`.
"""
