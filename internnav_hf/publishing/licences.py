"""The licence that follows from the weights and data that a model was made from.

Weights and data pass on their terms: share-alike requires the same licence, non-commercial use a
non-commercial one, a research licence itself. The licences of published weights and data are listed
here. The name of a folder can only add a restriction, never remove one.
"""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

MATTERPORT_TERMS = "https://kaldir.vc.in.tum.de/matterport/MP_TOS.pdf"
QWEN_TERMS = "https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct/blob/main/LICENSE"

_PERMISSIVE = """
afl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 ecl-2.0 isc mit ms-pl
ncsa odc-by openmdw-1.0 pddl postgresql unlicense wtfpl zlib
"""
_RESTRICTED = """
agpl-3.0 apple-amlr apple-ascl bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m
c-uda cc cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mpl-2.0 odbl
ofl-1.1 open-mdw openrail openrail++ osl-3.0 other
"""
PERMISSIVE, RESTRICTED = frozenset(_PERMISSIVE.split()), frozenset(_RESTRICTED.split())
"""Identifiers of the Hub: licences that let derived works have any other licence, or do not."""


class Licence(NamedTuple):
    """A licence as in the Hub's cards: `name` and `link` belong to the identifier "other"."""

    id: str
    name: str = ""
    link: str = ""

    def __str__(self) -> str:
        return f"{self.id} ({self.name})" if self.name else self.id

    @property
    def restricts(self) -> bool:
        """True if works derived from it cannot be licensed freely."""
        return self.id not in (*PERMISSIVE, UNRESTRICTED.id)


UNRESTRICTED = Licence("unrestricted")
"""For what the package itself generates: random weights, episodes of its simulator."""
NON_COMMERCIAL = Licence("cc-by-nc-sa-4.0")
QWEN_RESEARCH = Licence("other", "qwen-research", QWEN_TERMS)
QWEN = Licence("other", "qwen", QWEN_TERMS.replace("3B", "72B"))
SCANS = Licence("other", "matterport-gibson-terms-of-use", MATTERPORT_TERMS)
_AND = "-and-"
_APACHE, _MIT = Licence("apache-2.0"), Licence("mit")

# Repositories of the Hub. The first match counts. InternData-N1's card has cc-by-sa-4.0 in
# its head, but CC BY-NC-SA 4.0 in the agreement that users sign.
_REPOSITORIES = (
    (r"InternRobotics/VLN-PE", _MIT),
    (r"InternRobotics/.*|.*/(InternVLA-N1|InternData-N1).*", NON_COMMERCIAL),
    (r".*/StreamVLN.*", NON_COMMERCIAL),
    (r"Qwen/Qwen2\.5-VL-3B.*", QWEN_RESEARCH),
    (r"Qwen/Qwen2(\.5)?-VL-72B.*", QWEN),
    (r"Qwen/Qwen(2|2\.5|3)-VL-.*", _APACHE),
    (r"depth-anything/Depth-Anything-V2-Small.*", _APACHE),
    (r"depth-anything/Depth-Anything-V2-.*", Licence("cc-by-nc-4.0")),
    (r"(facebook/dinov2|microsoft/resnet|BeichenZhang/LongCLIP)-.*", _APACHE),
    (r"openai/clip-vit-.*", _MIT),
)
# Names, also of folders, that show where weights or data come from.
_RESTRICTED_NAMES = re.compile(
    r"InternRobotics/(?!VLN-PE)|InternVLA|InternData|StreamVLN|\b(r2r|rxr|scalevln)_\d+cm"
    r"|^r2r(_flash|_aliengo)?$"
    r"|\b(3dfront|gibson|hm3d|hssd|matterport3d|replica)_(d435i|zed)\b"
    r"|\bnavdp[^/]*\.ckpt$",
    re.I,
)


def restriction_of_name(name: str) -> Licence | None:
    """The restriction that the name of a folder or file implies; None if it implies none."""
    licence = licence_of_name(name)
    return licence if licence is not None and licence.restricts else None


def licence_of_name(name: str) -> Licence | None:
    """The licence of a Hub repository, or the restriction another name implies; None: unknown."""
    for pattern, licence in _REPOSITORIES:
        if re.fullmatch(pattern, name, re.I):
            return licence
    return NON_COMMERCIAL if _RESTRICTED_NAMES.search(name) else None


def strictest(licences: Iterable[Licence]) -> Licence | None:
    """The licence that a work derived from all of them must carry; None if none restricts it."""
    binding = list(dict.fromkeys(licence for licence in licences if licence.restricts))
    if NON_COMMERCIAL in binding:
        return NON_COMMERCIAL  # the card lists the others
    if len(binding) <= 1:
        return binding[0] if binding else None
    non_commercial = [licence for licence in binding if "-nc" in licence.id]
    rest = [licence for licence in binding if licence not in non_commercial]
    if not rest:
        return max(non_commercial, key=lambda licence: ("-sa" in licence.id, licence.id))
    named = sorted(licence.name or licence.id for licence in binding)
    return Licence("other", _AND.join(named), next((one.link for one in rest if one.link), ""))


def permits(required: Licence, chosen: Licence) -> bool:
    """True if a work derived from one under `required` may be published under `chosen`."""
    if not required.restricts:
        return True
    if chosen.id == "other":  # terms of their own, which may name several
        named = set((required.name or required.id).split(_AND))
        is_open = required.id == "other" and not (required.name and chosen.name)
        return is_open or named <= set(chosen.name.split(_AND))
    if required.id == chosen.id:
        return True
    if re.fullmatch(r"cc-by-nc-\d.*", required.id):
        return "-nc" in chosen.id
    # Share-alike of an older version allows the newer ones.
    (same, _, old), (kind, _, new) = required.id.rpartition("-"), chosen.id.rpartition("-")
    return bool(re.search(r"-sa-\d", required.id)) and kind == same and new >= old


def normal(text: str) -> str:
    """`text` as an identifier of the Hub: lower case, no blanks, no full-width letters."""
    return "-".join(unicodedata.normalize("NFKC", text).lower().split())


def parse_licence(text: str) -> Licence:
    """The licence of a Hub identifier, in any case; ValueError for an unknown identifier."""
    identifier = normal(text)
    known = PERMISSIVE | RESTRICTED
    if identifier not in known:
        close = get_close_matches(identifier, sorted(known), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ", as mit, apache-2.0 or other."
        raise ValueError(f"--license: found {text!r}, expected an identifier of the Hub{hint}")
    return Licence(identifier)
