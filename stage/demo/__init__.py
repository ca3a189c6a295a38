"""The demo: the real node-agent on a throw-away node where almost everything is broken on purpose."""
