"""What is in force is known by its number: nobody's change in between goes unseen."""

from __future__ import annotations

import pytest

from phalanx.ipsec import netns
from phalanx.linux import nft
from phalanx.linux.nft import NftError

RULES = """
table inet ours
delete table inet ours
table inet ours {
    chain input {
        type filter hook input priority 0
    }
}
"""


def test_every_change_is_counted_and_what_is_enforced_is_the_last() -> None:
    def look(_path: str) -> None:
        made = nft.enforce(lambda: RULES)
        assert nft.generation() == made
        assert "chain input" in nft.run("list", "ruleset")
        nft.load("add table inet another\n")
        assert nft.generation() == made + 1
        with pytest.raises(NftError, match=r"nft -f - failed: .*syntax error"):
            nft.load("nonsense\n")
        assert nft.generation() == made + 1

    netns.throwaway(look)


@pytest.mark.parametrize("times", [2, 3])
def test_who_changes_the_ruleset_meanwhile_is_seen(times: int) -> None:
    """What is loaded then may not be what was asked; after the third time it is said."""

    def look(_path: str) -> None:
        strange = iter(range(times))

        def disturbed() -> str:
            if (number := next(strange, None)) is not None:
                nft.load(f"add table inet strange{number}\n")
            return RULES

        if times < 3:
            assert nft.generation() < nft.enforce(disturbed) == nft.generation()
        else:
            with pytest.raises(NftError, match="something keeps changing the nftables ruleset"):
                nft.enforce(disturbed)

    netns.throwaway(look)


def test_without_the_tool_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NftError, match="is the package nftables installed"):
        nft.run("list", "ruleset")
