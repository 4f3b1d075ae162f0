"""`upsert(table)`: an INSERT that may say what happens when its row is there already, for both databases.

PostgreSQL's own construct; SQLite took the clause over from it, and SQLAlchemy's compiler for SQLite reads it as well
(not so the other way round).
"""

from sqlalchemy.dialects.postgresql import insert as upsert

__all__ = ["upsert"]
