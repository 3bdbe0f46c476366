"""Expressions of MongoDB's that take a damaged field for one that is unset: it keeps nothing else from its turn."""

from app.database.connection import Raw


def number_in(field: str, otherwise: int = 0) -> Raw:
    """A field's number."""
    return {"$cond": [{"$isNumber": field}, field, otherwise]}


def array_in(field: str) -> Raw:
    """A field's array, else an empty one."""
    return {"$cond": [{"$isArray": field}, field, []]}


def relation_in(field: str) -> Raw:
    """A field's relation, else `None`."""
    return {"$cond": [{"$in": [{"$type": field}, ["objectId", "string"]]}, field, None]}
