"""What both database engines promise: the same answers, the same refusals, one writer at a time."""

import contextlib
import threading
from collections.abc import Callable

import msgspec
import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    bindparam,
    delete,
    func,
    select,
    update,
)

from cumulet.core.db import Database, Duplicate, Json, Tx, open_database

METADATA = MetaData()
T = Table(
    "things",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(64)),
    Column("size", BigInteger, nullable=False),
    Column("ratio", Float),
    Column("flag", Boolean, nullable=False),
    Column("document", Json),
    Column("words", Text),
    UniqueConstraint("name", name="uq_things_name"),
    Index("ix_things_size", "size"),
)
PAIRS = Table(
    "pairs",
    METADATA,
    Column("a", Integer, primary_key=True),
    Column("b", Integer, primary_key=True),
    Column("limit", Integer),
)


class Part(msgspec.Struct):
    kind: str
    sizes: list[int]


@pytest.fixture
def db(database: Callable[[MetaData], Database]) -> Database:
    """An empty database with the tables above."""
    return database(METADATA)


def thing(id: str, **fields: object) -> dict[str, object]:
    """A row, mostly empty."""
    empty = {"name": id, "size": 1, "ratio": None, "flag": False, "document": None, "words": None}
    return {"id": id, **empty, **fields}


def put(db: Database, *rows: dict[str, object]) -> None:
    """Add rows."""
    with db.write() as tx:
        tx.insert_many(T, rows)


def ids(db: Database, *where: object) -> list[str]:
    """Which rows are there, by id."""
    with db.read() as tx:
        return [str(id) for id in tx.values(select(T.c.id).where(*where).order_by(T.c.id))]  # type: ignore[arg-type]


def test_a_row_comes_back_as_it_went(db: Database) -> None:
    """Every type, and NULL in every place that may be empty."""
    row = thing(
        "a", size=2**40, ratio=1.5, flag=True, document={"k": [1, None, "ü"], "t": True}, words="100% 'quoted' \\ %(x)s"
    )
    put(db, row, thing("b", name=None))
    with db.read() as tx:
        assert tx.one(select(T).where(T.c.id == bindparam("id")), id="a") == row
        assert tx.one(select(T).where(T.c.id == "b")) == thing("b", name=None)
        assert tx.one(select(T).where(T.c.id == "c")) is None
        assert tx.value(select(T.c.flag).where(T.c.id == "a")) is True


def test_structs_are_kept_as_json(db: Database) -> None:
    """A struct, or a list of them, goes in; built-in types come out."""
    put(db, thing("a", document=[Part("x", [1]), Part("y", [])]))
    with db.read() as tx:
        assert tx.value(select(T.c.document)) == [{"kind": "x", "sizes": [1]}, {"kind": "y", "sizes": []}]


def test_booleans_are_compared(db: Database) -> None:
    """By `is_`, by `==` and bare."""
    put(db, thing("a", flag=True), thing("b", flag=False))
    assert ids(db, T.c.flag.is_(True)) == ids(db, T.c.flag == True) == ids(db, T.c.flag) == ["a"]  # noqa: E712 - SQL
    assert ids(db, T.c.flag.is_(False)) == ids(db, ~T.c.flag) == ["b"]


def test_lists_of_values(db: Database) -> None:
    """IN with some, other numbers of, and no values."""
    put(db, thing("a"), thing("b"), thing("c"))
    assert ids(db, T.c.id.in_(["a", "c", "z"])) == ["a", "c"]
    assert ids(db, T.c.id.in_(["b"]), T.c.size == 1) == ["b"]
    assert ids(db, T.c.id.in_([])) == []
    assert ids(db, T.c.id.not_in([])) == ["a", "b", "c"]


def test_text_is_found_by_like(db: Database) -> None:
    """LIKE tells cases apart and ILIKE does not; a wildcard in the text can be escaped; it finds text within JSON."""
    put(db, thing("a", words="Hello_x"), thing("b", words="hello-x", document={"id": "f1"}), thing("c", document=["x"]))
    assert ids(db, T.c.words.like("%ello%")) == ["a", "b"]
    assert ids(db, T.c.words.like("Hello%")) == ["a"]
    assert ids(db, T.c.words.ilike("HELLO%")) == ["a", "b"]
    assert ids(db, T.c.words.contains("o_x", autoescape=True)) == ["a"]
    assert ids(db, T.c.document.like('%"id":"f1"%', escape="\\")) == ["b"]
    assert ids(db, T.c.document.like('%"x"%')) == ["c"]


def test_text_is_ordered_by_its_bytes(db: Database) -> None:
    """Capitals before small letters, no language's rules; paging by key relies on comparing and sorting alike."""
    put(db, thing("b"), thing("B"), thing("a-"), thing("a"), thing("ä"))
    assert ids(db) == ["B", "a", "a-", "b", "ä"]
    assert ids(db, T.c.id > "a-") == ["b", "ä"]


def test_sums_are_numbers_that_json_can_hold(db: Database) -> None:
    """A sum of integers is an int, an average a float, and of nothing None."""
    with db.read() as tx:
        assert tx.value(select(func.sum(T.c.size))) is None
    put(db, thing("a", size=2**33), thing("b", size=2))
    with db.read() as tx:
        total = tx.value(select(func.sum(T.c.size)))
        mean = tx.value(select(func.avg(PAIRS.c.a)))
        assert (total, type(total)) == (2**33 + 2, int)
        assert mean is None
        assert msgspec.json.encode(tx.all(select(func.sum(T.c.size).label("s"), func.count().label("n")))) == (
            b'[{"s":8589934594,"n":2}]'
        )


def test_a_second_row_with_the_same_key_is_refused(db: Database) -> None:
    """By its primary key and by a unique column; the transaction goes on for who catches it."""
    put(db, thing("a"))
    with db.write() as tx:
        for row in (thing("a", name="other"), thing("other", name="a")):
            with pytest.raises(Duplicate):
                tx.insert(T, row)
        tx.insert(T, thing("b"))
    assert ids(db) == ["a", "b"]


def test_two_rows_without_a_name_are_no_duplicates(db: Database) -> None:
    """NULL is equal to nothing, not to NULL either."""
    put(db, thing("a", name=None), thing("b", name=None))
    assert ids(db, T.c.name.is_(None)) == ["a", "b"]


def test_upsert_inserts_or_overwrites(db: Database) -> None:
    """By a key of one column or of several; JSON included; a row that is all key stays as it is."""
    with db.write() as tx:
        for document in ({"n": 1}, {"n": 2}):
            tx.upsert(T, thing("a", document=document), ["id"])
        for limit in (5, 7):
            tx.upsert(PAIRS, {"a": 1, "b": 2, "limit": limit}, ["a", "b"])
        for _ in range(2):
            tx.upsert(PAIRS, {"a": 3, "b": 4}, ["a", "b"])
    with db.read() as tx:
        assert tx.values(select(T.c.document)) == [{"n": 2}]
        assert tx.all(select(PAIRS).order_by(PAIRS.c.a)) == [
            {"a": 1, "b": 2, "limit": 7},
            {"a": 3, "b": 4, "limit": None},
        ]


def test_compare_and_set(db: Database) -> None:
    """The count of touched rows says who was first, also when nothing would change."""
    put(db, thing("a", size=1))
    statement = update(T).where(T.c.id == "a", T.c.size == bindparam("old")).values(size=T.c.size + 1)
    with db.write() as tx:
        assert [tx.run(statement, old=1), tx.run(statement, old=1)] == [1, 0]
        assert tx.run(update(T).where(T.c.id == "a").values(size=2, document={"x": 1})) == 1
        assert tx.run(delete(T).where(T.c.id == "z")) == 0


def test_an_error_rolls_everything_back(db: Database) -> None:
    """What was written before it is gone, and the next transaction works."""
    with contextlib.suppress(ZeroDivisionError), db.write() as tx:
        tx.insert(T, thing("a"))
        raise ZeroDivisionError
    with pytest.raises(Duplicate):
        put(db, thing("b"), thing("b"))
    put(db, thing("c"))
    assert ids(db) == ["c"]


def test_no_transaction_inside_another(db: Database, database: Callable[[MetaData], Database]) -> None:
    """Neither in the same database nor in another service's."""
    other = database(MetaData())
    with db.write(), pytest.raises(RuntimeError, match="inside an open transaction"), other.read():
        pass
    with db.read(), pytest.raises(RuntimeError, match="inside an open transaction"), db.write():
        pass
    put(db, thing("a"))


def test_reading_refuses_to_write(db: Database) -> None:
    """Whichever way the statement comes; what was read before is read on."""
    put(db, thing("a"))
    ways: list[Callable[[Tx], object]] = [
        lambda tx: tx.insert(T, thing("b")),
        lambda tx: tx.insert_many(T, [thing("b")]),
        lambda tx: tx.upsert(T, thing("b"), ("id",)),
        lambda tx: tx.update(T, {"id": "a"}, {"name": "b"}),
        lambda tx: tx.delete(T, {"id": "a"}),
        lambda tx: tx.run(update(T).where(T.c.id == "a").values(name="b")),
    ]
    for way in ways:
        with db.read() as tx:
            before = tx.find(T, {"id": "a"})
            with pytest.raises(RuntimeError, match="read-only"):
                way(tx)
            assert tx.find(T, {"id": "a"}) == before
    assert ids(db) == ["a"]


def test_writers_come_one_after_another(db: Database) -> None:
    """Threads that count under a limit before they insert never pass it."""
    limit, threads = 10, 4
    start = threading.Barrier(threads, timeout=10)
    mine: list[int] = []

    def fill(number: int) -> None:
        start.wait()
        made = 0
        for turn in range(limit):
            with db.write() as tx:
                if tx.value(select(func.count()).select_from(T)) < limit:
                    tx.insert(T, thing(f"{number}-{turn}"))
                    made += 1
        mine.append(made)

    running = [threading.Thread(target=fill, args=(number,)) for number in range(threads)]  # noqa: TID251 - another caller
    for one in running:
        one.start()
    for one in running:
        one.join(30)
        assert not one.is_alive()
    assert sum(mine) == len(ids(db)) == limit


def test_a_reader_sees_what_is_committed(db: Database) -> None:
    """Not what another thread has open, and at once what it committed."""
    written, looked = threading.Event(), threading.Event()

    def write() -> None:
        with db.write() as tx:
            tx.insert(T, thing("a"))
            written.set()
            looked.wait(10)

    writer = threading.Thread(target=write)  # noqa: TID251 - another caller
    writer.start()
    assert written.wait(10)
    during = ids(db)
    looked.set()
    writer.join(10)
    assert (during, ids(db)) == ([], ["a"])


def test_hooks_run_after_the_commit_only(db: Database) -> None:
    """In order, outside the transaction; not at all after an error."""
    ran: list[str] = []

    def hook(name: str) -> Callable[[], None]:
        return lambda: ran.append(f"{name} sees {ids(db)}")

    with db.write() as tx:
        tx.after_commit.extend([hook("first"), hook("second")])
        tx.insert(T, thing("a"))
        assert ran == []
    with contextlib.suppress(ZeroDivisionError), db.write() as tx:
        tx.after_commit.append(hook("never"))
        raise ZeroDivisionError
    assert ran == ["first sees ['a']", "second sees ['a']"]


def test_create_is_repeatable_and_adds_new_tables(database_url: str) -> None:
    """Only the first call finds the database empty; a table added by a newer version appears beside the old rows."""
    with contextlib.closing(open_database(database_url, "growing", METADATA)) as old:
        assert [old.create(), old.create()] == [True, False]
        put(old, thing("a"))
    newer = MetaData()
    for table in (*METADATA.sorted_tables, Table("more", MetaData(), Column("id", Integer, primary_key=True))):
        table.to_metadata(newer)
    with contextlib.closing(open_database(database_url, "growing", newer)) as grown:
        assert grown.create() is False
        with grown.write() as tx:
            tx.insert(newer.tables["more"], {"id": 1})
        assert ids(grown) == ["a"]


def test_services_do_not_see_each_others_tables(database_url: str) -> None:
    """Each has a file, or a schema, of its own."""
    with (
        contextlib.closing(open_database(database_url, "one", METADATA)) as one,
        contextlib.closing(open_database(database_url, "two", METADATA)) as two,
    ):
        assert [one.create(), two.create()] == [True, True]
        put(one, thing("a"))
        assert (ids(one), ids(two)) == (["a"], [])


def test_a_statement_is_compiled_once_per_shape(db: Database) -> None:
    """Other values, other lists and other limits find the compiled statement again."""
    put(db, *[thing(str(n), size=n) for n in range(5)])

    def ask(n: int) -> list[str]:
        with db.read() as tx:
            shape = select(T.c.id).where(and_(T.c.size <= n, T.c.id.in_([str(i) for i in range(n)]))).limit(n)
            found = tx.values(shape.order_by(T.c.id))
        with db.write() as tx:
            tx.upsert(T, thing("9", size=n), ["id"])
            tx.run(update(T).where(T.c.id == str(n)).values(words="w"))
        return [str(id) for id in found]

    assert ask(1) == ["0"]
    compiled, ready = len(db._compiler._cache), len(db._compiler._ready)
    assert ask(3) == ["0", "1", "2"]
    assert (len(db._compiler._cache), len(db._compiler._ready)) == (compiled, ready)


def test_a_caught_error_cannot_lose_what_follows(database_url: str) -> None:
    """PostgreSQL takes nothing more after an error: the commit then fails aloud, instead of rolling back in silence."""
    with contextlib.closing(open_database(database_url, "one", METADATA)) as db:
        db.create()
        put(db, thing("a"), thing("b"))

        def go_on() -> None:
            with db.write() as tx:
                tx.insert(T, thing("c"))
                with contextlib.suppress(Duplicate):
                    tx.run(update(T).where(T.c.id == "a").values(name="b"))

        if db.dialect == "sqlite":
            go_on()
            assert ids(db) == ["a", "b", "c"]
        else:
            with pytest.raises(Exception, match="after an error in it"):
                go_on()
            assert ids(db) == ["a", "b"]
