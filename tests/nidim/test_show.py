"""Tables of the commands that ask a server, on terminals of any width."""

from __future__ import annotations

import pytest

from nidim.remote import show

NAME, FIGURE = "an-encoder-with-a-long-name@12", "0.05704"


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_breaks_names_and_no_numbers(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    row = [NAME, 0.0570412, 12.3456, 0.0570412]
    show.table(["name", "Î", "SW2 / floor", "prior gap"], [row], right=("Î", "SW2 / floor", "prior gap"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= width
    assert lines[1].split()[-3:] == [FIGURE, "12.35", FIGURE]
    assert "".join(line[: len(NAME)].split()[0] for line in lines[1:]) == NAME
