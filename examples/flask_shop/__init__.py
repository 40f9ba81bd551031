"""A small shop that takes payment in deposit tokens, written as any Flask shop would be. Run ``python -m`` on it."""

from examples.flask_shop.app import create_app

__all__ = ["create_app"]
