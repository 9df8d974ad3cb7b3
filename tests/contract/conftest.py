"""What contract tests share: a server and a channel to it, once per transport."""

from support.channels import connect

__all__ = ["connect"]
