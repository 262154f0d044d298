"""flmctl migrate and flmctl backup."""

from pathlib import Path

from flame.cli.flmctl import flmctl
from flame.storage.sqlite import SqliteStore
from tests.cli.conftest import Run


def test_migrate_says_what_it_did(run: Run, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/flame.db"
    assert "from version 0 to version" in run(flmctl, "migrate", "-u", url).stdout
    assert "already" in run(flmctl, "migrate", "-u", url).stdout


def test_backup_makes_a_database_that_opens(run: Run, tmp_path: Path) -> None:
    SqliteStore(tmp_path / "flame.db").close()
    copy = tmp_path / "copy.db"
    result = run(flmctl, "backup", "-u", f"sqlite://{tmp_path}/flame.db", "-f", str(copy))
    assert result.exit_code == 0
    assert str(copy) in result.stdout
    SqliteStore(copy).close()


def test_what_is_wrong_is_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run(flmctl, "backup", "-u", f"sqlite://{tmp_path}/no.db", "-f", str(tmp_path / "c"))
    assert result.exit_code == 1
    assert result.stderr == f"Error: there is no database {tmp_path}/no.db\n"
