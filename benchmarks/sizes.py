"""The amounts to measure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The amounts to measure. All are counts."""

    rounds: int = 7
    heavy_rounds: int = 3
    """Rounds of measurements that start servers."""
    loads: int = 5
    """Rounds of measurements that write a long session."""
    appends: int = 500
    """Appends one after the other, in each round."""
    sessions: int = 16
    """Sessions with concurrent appends."""
    appends_per_session: int = 60
    batch: int = 1000
    batches: int = 20
    short: int = 5000
    """Messages of the short session."""
    short_reads: int = 5
    """Reads of the short session, in each round."""
    long: int = 100_000
    """Messages of the long session."""
    copied: tuple[int, ...] = (100, 5000, 100_000, 1_000_000)
    """Messages of each session that is copied."""
    copies: int = 30
    """Copies of each session, in each round."""
    depth: int = 100
    """Length of the chain of copies of copies, each with messages of its own."""
    hop: int = 200
    """Messages that each copy in the chain adds."""
    watchers: int = 1000
    """Watchers of one server."""
    watched: int = 100
    """Sessions that the watchers are spread over. Another measurement has just one."""
    watched_appends: int = 200
    """Appends whose delivery to a watcher is timed, in each round."""
    watched_messages: int = 50
    """Messages appended to each watched session while all watchers are connected."""
    turns: int = 300
    """Turns that run at once."""
    turn_s: int = 20
    """Seconds for which the model of each turn writes."""
    starts: int = 1_000
    """Turns that start at once."""
    listed: int = 200_000
    """Sessions of the project whose sessions are listed."""
    listings: int = 40
    """Reads of each listing's first page on an idle server. A busy server gets the same number."""
    deleted: int = 20_000
    """Sessions that match the filter of a deletion. As many other sessions do not match it."""
    deleted_messages: int = 10
    """Messages of each matching session."""

    def quick(self) -> "Sizes":
        """Return about a tenth of the amounts, for a smoke test."""
        return Sizes(
            rounds=2,
            heavy_rounds=2,
            loads=2,
            appends=self.appends // 10,
            sessions=self.sessions,
            appends_per_session=self.appends_per_session // 10,
            batch=self.batch // 10,
            batches=self.batches // 2,
            short=self.short // 10,
            short_reads=1,
            long=self.long // 10,
            copied=tuple(length // 10 for length in self.copied),
            copies=self.copies // 3,
            depth=self.depth // 4,
            hop=self.hop // 4,
            watchers=self.watchers // 10,
            watched=self.watched // 10,
            watched_appends=self.watched_appends // 4,
            watched_messages=self.watched_messages // 2,
            turns=self.turns // 10,
            turn_s=self.turn_s // 4,
            starts=self.starts // 10,
            listed=self.listed // 10,
            listings=self.listings // 4,
            deleted=self.deleted // 10,
            deleted_messages=self.deleted_messages // 2,
        )
