"""Accounts: passwords and their hashes, slowing down, the record, the file."""

from __future__ import annotations

import dataclasses
import math
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _web import CHEAP, accounts_in
from scanward.config import WEB_BOUNDS
from scanward.errors import InputError
from scanward.web import accounts as accounts_module
from scanward.web import throttle
from scanward.web.accounts import Accounts
from scanward.web.passwords import Hashing, generate, normal, proquint, refuse_weak

NOW = 1_800_000_000.0
HERE = "192.0.2.1"
GOOD = "a long enough passphrase"


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    with accounts_in(tmp_path) as made:
        made.add("R01", ["reader"], GOOD, now=NOW)
        yield made


def wrong(
    accounts: Accounts, times: int, name: str = "R01", address: str = HERE, now: float = NOW
) -> list[float]:
    """The waits of so many wrong attempts, each made as soon as it is taken."""
    waits = []
    for number in range(times):
        wait = accounts.verify(name, f"wrong {number}", address, now).wait
        while wait > 0:
            waits.append(wait)
            now += wait
            wait = accounts.verify(name, f"wrong {number}", address, now).wait
    return waits


# --- passwords


def test_proquints_are_those_of_the_paper() -> None:
    """Wilkerson's own examples: 127.0.0.1 is lusab-babad, 63.84.220.193 gutih-tugad."""
    assert "-".join(map(proquint, (0x7F00, 0x0001))) == "lusab-babad"
    assert "-".join(map(proquint, (0x3F54, 0xDCC1))) == "gutih-tugad"
    assert len({proquint(value) for value in range(1 << 16)}) == 1 << 16  # 16 bits each, none lost


def test_a_made_passphrase_holds_80_bits() -> None:
    made = {generate() for _ in range(200)}
    assert len(made) == 200
    assert all(len(one.split("-")) * 16 >= 80 for one in made)


@pytest.mark.parametrize(
    "password",
    ["", "short", "fourteen chars", "aaaaaaaaaaaaaaaa", "passwordpassword", "R01R01R01R01", "x" * 2000],
)
def test_weak_passwords_are_refused(accounts: Accounts, password: str) -> None:
    with pytest.raises(InputError):
        accounts.add("R02", ["reader"], password)
    with pytest.raises(InputError):
        accounts.set_password("R01", password)
    assert accounts.get("R02") is None
    assert accounts.verify("R01", GOOD, HERE, NOW).account is not None


def test_hashes_are_argon2id_with_rfc_9106s_parameters(tmp_path: Path) -> None:
    with Accounts(tmp_path / "a.sqlite") as real:
        real.add("R01", [], GOOD)
        with real.database.reading() as read:
            hashed = read.execute("SELECT hash FROM accounts").fetchone()[0]
    found = argon2.extract_parameters(hashed)
    assert found.type is argon2.Type.ID
    assert (found.memory_cost, found.time_cost, found.parallelism) == (64 << 10, 3, 4)
    assert found.salt_len >= 16


def test_one_keyboards_letter_is_anothers() -> None:
    assert normal("caf\u00e9 \ufb01ne") == normal("cafe\u0301 fine")
    hashed = CHEAP.hash("cafe\u0301 and croissant")
    assert CHEAP.fits(hashed, "caf\u00e9 and croissant")


@given(st.text(max_size=40), st.text(max_size=40))
def test_only_the_password_itself_fits(one: str, other: str) -> None:
    hashed = CHEAP.hash(one)
    assert CHEAP.fits(hashed, one)
    assert CHEAP.fits(hashed, other) == (normal(one) == normal(other))


def test_a_huge_password_is_wrong_and_cheap(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = argon2.PasswordHasher.verify

    def measured(self: argon2.PasswordHasher, known: str, given: bytes) -> bool:
        hashed.append(len(given))
        return real(self, known, given)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", measured)
    assert accounts.verify("R01", "x" * 1_000_000, HERE, NOW).account is None
    assert hashed == [0]  # and not a megabyte


def test_hashes_follow_the_parameters(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with Accounts(path, CHEAP) as old:
        old.add("R01", [], GOOD)
    stronger = Hashing(kib=128, passes=2, lanes=1)

    def stored(accounts: Accounts) -> str:
        with accounts.database.reading() as read:
            return str(read.execute("SELECT hash FROM accounts").fetchone()[0])

    with Accounts(path, stronger) as new:
        before = stored(new)
        assert new.verify("R01", "wrong wrong wrong", HERE, NOW).account is None
        assert stored(new) == before  # nobody proved that he knows the password
        assert new.verify("R01", GOOD, HERE, NOW).account is not None
        after = stored(new)
        assert argon2.extract_parameters(after).memory_cost == 128
        assert new.verify("R01", GOOD, HERE, NOW).account is not None
        assert stored(new) == after  # once is enough


def test_a_damaged_hash_is_told(accounts: Accounts) -> None:
    with accounts.database.transaction() as change:
        change.execute("UPDATE accounts SET hash = 'rubbish'")
    with pytest.raises(InputError, match="hash cannot be used"):
        accounts.verify("R01", GOOD, HERE, NOW)


# --- accounts


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", "é", "-x", "x" * 65, "a\n", "a\x00b", "<b>"])
def test_names_that_are_none(accounts: Accounts, name: str) -> None:
    with pytest.raises(InputError):
        accounts.add(name, ["reader"])


@pytest.mark.parametrize("roles", [["Reader"], ["a b"], [""], ["x" * 33], [f"r{'a' * i}" for i in range(17)]])
def test_roles_that_are_none(accounts: Accounts, roles: list[str]) -> None:
    with pytest.raises(InputError):
        accounts.add("R02", roles)
    with pytest.raises(InputError):
        accounts.set_roles("R01", roles)


def test_a_name_is_taken_whatever_its_case(accounts: Accounts) -> None:
    with pytest.raises(InputError, match="already"):
        accounts.add("r01", ["lead"])
    assert accounts.verify("r01 ", GOOD, HERE, NOW).account == accounts.get("R01")


def test_an_account_through_its_life(accounts: Accounts) -> None:
    made = accounts.add("L01", ["lead", "reader"], by="root", now=NOW)
    assert made is not None
    checked = accounts.verify("L01", made, HERE, NOW)
    assert checked.account is not None
    assert checked.account.roles == {"lead", "reader"}
    accounts.set_roles("L01", ["lead"], now=NOW)
    accounts.disable("L01", now=NOW)
    assert accounts.verify("L01", made, HERE, NOW).account is None
    accounts.disable("L01", False, now=NOW)
    again = accounts.set_password("L01", now=NOW)
    assert again not in (None, made)
    assert accounts.verify("L01", made, HERE, NOW).account is None
    assert accounts.verify("L01", str(again), HERE, NOW).account is not None
    assert [account.name for account in accounts.all()] == ["L01", "R01"]
    accounts.remove("L01", by="root", now=NOW)
    assert accounts.get("L01") is None
    kinds = [event.kind for event in accounts.events.read() if event.account == "L01"]
    assert kinds == [
        "account added",
        "roles changed",
        "account disabled",
        "sign-in refused",
        "account enabled",
        "password changed",
        "sign-in refused",
        "account removed",
    ]
    for act in (accounts.set_password, accounts.disable, accounts.remove, accounts.unlock):
        with pytest.raises(InputError, match="no such account"):
            act("L01")


# --- nobody learns which names exist


@pytest.mark.parametrize("kind", ["unknown", "wrong", "disabled"])
def test_every_refusal_costs_one_hash_and_says_the_same(
    accounts: Accounts, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "disabled":
        accounts.disable("R01")
    asked: list[str] = []
    real = Hashing.fits

    def counted(self: Hashing, hashed: str, password: str) -> bool:
        asked.append(hashed)
        return real(self, hashed, password)

    monkeypatch.setattr(Hashing, "fits", counted)
    name = "nobody" if kind == "unknown" else "R01"
    password = GOOD if kind == "disabled" else "wrong"
    assert accounts.verify(name, password, HERE, NOW) == accounts_module.Checked(None, 0.0)
    assert len(asked) == 1
    assert argon2.extract_parameters(asked[0]).memory_cost == CHEAP.kib


def test_unknown_names_are_slowed_down_like_known_ones(accounts: Accounts) -> None:
    known = wrong(accounts, 12, "R01", "192.0.2.1")
    unknown = wrong(accounts, 12, "nobody", "192.0.2.2")
    assert known == unknown
    assert len(known) == 12 - WEB_BOUNDS.account_free


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=60))
def test_hostile_names_are_merely_wrong(
    shared_accounts: Accounts, name: str, password: str, address: str
) -> None:
    checked = shared_accounts.verify(name, password, address, NOW)
    assert checked.account is None


@pytest.fixture(scope="module")
def shared_accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    with accounts_in(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.mark.parametrize(
    "name", ["\ud800", "a\x00", "R01\x00", "' OR 1=1 --", "x" * 100_000, "R\u017f1", "R0\uff11"]
)
def test_hostile_names_by_hand(accounts: Accounts, name: str) -> None:
    assert accounts.verify(name, GOOD, HERE, NOW).account is None


def test_names_that_only_look_alike_do_not_delay_each_other(accounts: Accounts) -> None:
    accounts.add("sam", [], GOOD, now=NOW)
    wrong(accounts, 12, "\u017fam", "192.0.2.2")  # casefold() makes an s of it
    assert accounts.verify("sam", GOOD, HERE, NOW).account is not None


# --- slowing down


def test_delays_double_up_to_a_quarter_of_an_hour() -> None:
    delays = [throttle.delay(failures, 5) for failures in range(20)]
    assert delays[:5] == [0.0] * 5
    assert delays[5:9] == [2.0, 4.0, 8.0, 16.0]
    assert delays[-1] == WEB_BOUNDS.longest_wait == 900.0
    assert throttle.delay(10**9, 5) == 900.0


def test_a_guesser_gets_some_hundred_guesses_a_day(accounts: Accounts) -> None:
    guesses, now = 0, NOW
    while now < NOW + 86_400:
        checked = accounts.verify("R01", "wrong", f"192.0.2.{guesses % 250}", now)
        assert checked.account is None
        guesses += checked.wait == 0
        now += checked.wait
    assert guesses < 120


def test_waiting_is_enough(accounts: Accounts) -> None:
    wrong(accounts, WEB_BOUNDS.account_free)
    early = accounts.verify("R01", GOOD, HERE, NOW + 1.0)
    assert (early.account, early.wait) == (None, 1.0)
    assert accounts.verify("R01", GOOD, HERE, NOW + 1.5).wait == 0.5  # asking does not prolong it
    assert accounts.verify("R01", GOOD, HERE, NOW + 2.0).account is not None
    assert accounts.verify("R01", "wrong", HERE, NOW + 2.0).wait == 0  # and then all is forgotten


def test_what_was_wrong_is_forgotten_after_a_day(accounts: Accounts) -> None:
    wrong(accounts, 12)
    later = NOW + 2 * WEB_BOUNDS.forget_seconds
    assert [accounts.verify("R01", "wrong", HERE, later).wait for _ in range(5)] == [0.0] * 5


def test_a_restart_forgives_nothing(tmp_path: Path) -> None:
    with accounts_in(tmp_path) as before:
        before.add("R01", [], GOOD)
        for name in ("R01", "nobody"):
            wrong(before, WEB_BOUNDS.account_free, name)
    with accounts_in(tmp_path) as after:
        assert after.verify("R01", GOOD, "192.0.2.9", NOW + 1).wait == 1.0
        assert after.verify("nobody", GOOD, "192.0.2.9", NOW + 1).wait == 1.0


def test_a_clock_set_back_does_not_lock_anybody_out(accounts: Accounts) -> None:
    wrong(accounts, 8)
    wait = accounts.verify("R01", GOOD, "192.0.2.9", NOW - 10 * 86_400).wait
    assert 0 < wait <= WEB_BOUNDS.longest_wait
    assert accounts.verify("R01", GOOD, "192.0.2.9", NOW - 10 * 86_400 + wait).account is not None


def test_a_known_browser_does_not_suffer_from_an_attack(accounts: Accounts) -> None:
    account = accounts.verify("R01", GOOD, HERE, NOW).account
    assert account is not None
    accounts.remember_device(account, "d" * 43, NOW)
    now = NOW
    for number in range(40):
        now += accounts.verify("R01", "wrong", f"198.51.100.{number}", now).wait
    accounts.verify("R01", "wrong", "198.51.100.99", now)
    assert accounts.verify("R01", GOOD, "203.0.113.1", now).wait > 0  # everybody else waits
    assert accounts.verify("R01", GOOD, "203.0.113.1", now, "d" * 43).account is not None
    assert accounts.verify("R01", GOOD, "203.0.113.1", now, "e" * 43).wait > 0
    assert accounts.verify("R01", GOOD, "203.0.113.1", now).wait > 0  # nor is the attacker washed clean by it


def test_a_known_browser_is_slowed_down_for_itself(accounts: Accounts) -> None:
    account = accounts.get("R01")
    assert account is not None
    accounts.remember_device(account, "d" * 43, NOW)
    waits = [accounts.verify("R01", "wrong", HERE, NOW, "d" * 43).wait for _ in range(7)]
    assert waits == [0.0] * 5 + [2.0, 2.0]
    assert accounts.verify("R01", GOOD, HERE, NOW).account is not None  # and not the account with it


def test_a_browser_known_to_one_account_is_a_stranger_to_the_others(accounts: Accounts) -> None:
    accounts.add("R02", [], GOOD, now=NOW)
    account = accounts.get("R01")
    assert account is not None
    accounts.remember_device(account, "d" * 43, NOW)
    wrong(accounts, WEB_BOUNDS.account_free, "R02")
    assert accounts.verify("R02", GOOD, HERE, NOW, "d" * 43).wait > 0


def test_a_new_password_makes_every_browser_a_stranger(accounts: Accounts) -> None:
    account = accounts.get("R01")
    assert account is not None
    accounts.remember_device(account, "d" * 43, NOW)
    accounts.set_password("R01", GOOD + " two")
    wrong(accounts, WEB_BOUNDS.account_free)
    assert accounts.verify("R01", GOOD + " two", HERE, NOW, "d" * 43).wait > 0


def test_one_address_cannot_delay_everybody(accounts: Accounts) -> None:
    """It is stopped itself, long before: each of 100 accounts still takes the right password at once."""
    names = [f"A{number:03}" for number in range(100)]
    for name in names:
        accounts.add(name, [], GOOD, now=NOW)
    for _ in range(10):
        for name in names:
            accounts.verify(name, "wrong", "198.51.100.1", NOW)
    assert accounts.verify("R01", GOOD, "198.51.100.1", NOW).wait > 0
    assert all(accounts.verify(name, GOOD, "203.0.113.1", NOW).account is not None for name in names)


def test_success_does_not_wash_an_address_clean(accounts: Accounts) -> None:
    """An attacker with an account of his own signs in between guesses at others."""
    accounts.add("mallory", [], GOOD, now=NOW)
    taken = 0
    for number in range(100):
        taken += accounts.verify(f"A{number:03}", "wrong", HERE, NOW).wait == 0
        accounts.verify("mallory", GOOD, HERE, NOW)
    assert taken == WEB_BOUNDS.address_free


def test_a_thousand_at_once_get_no_further_than_in_turn(accounts: Accounts) -> None:
    taken: list[bool] = []
    start = threading.Barrier(20)

    def guess(number: int) -> None:
        start.wait()
        taken.extend(
            accounts.verify("R01", f"wrong {number}", f"192.0.2.{number}", NOW).wait == 0 for _ in range(5)
        )

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100
    assert sum(taken) == WEB_BOUNDS.account_free


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = throttle.Addresses()
    for number in range(WEB_BOUNDS.addresses + 500):
        seen.attempt(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", NOW)
    assert len(seen) == WEB_BOUNDS.addresses


def test_names_on_disk_are_bounded_and_known_ones_stay(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "WEB_BOUNDS", dataclasses.replace(WEB_BOUNDS, names=50))
    wrong(accounts, WEB_BOUNDS.account_free)
    for number in range(200):
        accounts.verify(f"nobody{number}", "wrong", f"192.0.2.{number}", NOW + 1)
    with accounts.database.reading() as read:
        held = read.execute("SELECT count(*) FROM failures").fetchone()[0]
    assert held == 50
    assert accounts.verify("R01", GOOD, "203.0.113.1", NOW + 1).wait > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix", "", True),
    ],
)
def test_what_is_one_address(one: str, other: str, same: bool) -> None:
    assert (throttle.place(one) == throttle.place(other)) is same


@given(st.lists(st.tuples(st.floats(0, 2000), st.booleans()), max_size=60))
def test_attempts_are_never_closer_than_the_delay(steps: list[tuple[float, bool]]) -> None:
    """Whatever the times, an attempt that is taken lies a whole delay after the one before."""
    count, now, last = throttle.Count(), NOW, -math.inf
    for step, back in steps:
        now += -step if back else step
        failures = count.failures
        count, wait = throttle.attempt(count, 5, now)
        if wait == 0 and failures and not back and count.failures > 1:
            assert now - last >= throttle.delay(failures, 5) - 1e-6 or last > now
        assert wait <= WEB_BOUNDS.longest_wait
        last = count.last


# --- alerts and the record


def test_guessing_is_told_and_helps_to_unlock(accounts: Accounts, caplog: pytest.LogCaptureFixture) -> None:
    wrong(accounts, 25)
    alerts = [event for event in accounts.events.read() if event.kind == "alert"]
    assert [event.detail for event in alerts if event.account == "R01"] == [
        "10 attempts to sign in, none right",
        "20 attempts to sign in, none right",
    ]
    assert "R01" in caplog.text
    accounts.unlock("R01", by="root")
    assert accounts.verify("R01", GOOD, "203.0.113.1", NOW).account is not None


def test_an_address_that_guesses_at_many_names_is_told(accounts: Accounts) -> None:
    now = NOW
    for number in range(45):
        now += accounts.verify(f"nobody{number}", "wrong", HERE, now).wait
        accounts.verify(f"nobody{number}", "wrong", HERE, now)
    assert any(event.kind == "alert" and "address" in event.detail for event in accounts.events.read())


def test_the_record_holds_neither_passwords_nor_addresses_nor_what_was_typed(accounts: Accounts) -> None:
    made = accounts.add("R02", ["reader"], by="root")
    accounts.verify("my secret typed into the wrong field", "another secret", HERE, NOW)
    accounts.verify("R01", GOOD, HERE, NOW)
    accounts.set_password("R01", GOOD + "!")
    raw = b"".join(path.read_bytes() for path in accounts.database.path.parent.iterdir())
    for secret in (str(made), "wrong field", "another secret", GOOD, HERE):
        assert secret.encode() not in raw
    assert len(accounts.events.read()) >= 4


@pytest.mark.parametrize("statement", ["UPDATE events SET kind = 'x'", "DELETE FROM events"])
def test_the_record_only_grows(accounts: Accounts, statement: str) -> None:
    with accounts.database.transaction() as change, pytest.raises(sqlite3.IntegrityError, match="never"):
        change.execute(statement)
    assert [event.kind for event in accounts.events.read()] == ["account added"]


def test_a_flood_is_written_down_as_a_count(accounts: Accounts) -> None:
    for number in range(200):
        accounts.verify(f"nobody{number}", "wrong", f"192.0.2.{number}", NOW)
    accounts.verify("nobody", "wrong", "203.0.113.1", NOW + 61)
    refused = [event for event in accounts.events.read() if event.kind == "sign-in refused"]
    assert len(refused) == WEB_BOUNDS.failures_minute + 2
    assert f"{200 - WEB_BOUNDS.failures_minute} more" in refused[-2].detail


# --- the file


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.touch(0o644)
    before = os.umask(0)
    try:
        with Accounts(path, CHEAP) as accounts:
            accounts.add("R01", [], GOOD)
            modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}


def test_every_change_is_durable_before_it_is_answered(accounts: Accounts) -> None:
    with accounts.database.reading() as read:
        assert read.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert read.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert read.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_two_processes_share_the_file(accounts: Accounts) -> None:
    with Accounts(accounts.database.path, CHEAP) as other:
        other.set_password("R01", GOOD + " of another")
        assert accounts.verify("R01", GOOD, HERE, NOW).account is None
        assert accounts.verify("R01", GOOD + " of another", HERE, NOW).account is not None


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"not a database at all, but long enough to be looked at" * 50)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE x (y)")
    other.close()
    for path in (tmp_path / "text", tmp_path / "other", tmp_path / "no" / "folder", tmp_path):
        with pytest.raises(InputError):
            Accounts(path, CHEAP)
    assert sqlite3.connect(":memory:").close() is None


def test_what_fails_halfway_has_not_happened(accounts: Accounts) -> None:
    def half() -> None:
        with accounts.database.transaction() as change:
            change.execute("UPDATE accounts SET roles = 'lead'")
            with accounts.database.transaction() as inner:
                inner.execute("UPDATE accounts SET disabled = 1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    account = accounts.get("R01")
    assert account is not None
    assert (account.roles, account.disabled) == ({"reader"}, False)


def test_weak_words_are_told_apart() -> None:
    refuse_weak("three short words", "R01")
    with pytest.raises(InputError, match="six different"):
        refuse_weak("R01-password-1-1-1", "R01")
