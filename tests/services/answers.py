"""The answers of handlers as clients get them."""


def told(members):
    """What of an answer goes over the wire: members that are None do not (wire/serializer.py)."""
    if isinstance(members, dict):
        return {name: told(value) for name, value in members.items() if value is not None}
    return [told(value) for value in members] if isinstance(members, list) else members
