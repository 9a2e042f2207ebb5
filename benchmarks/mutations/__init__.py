"""Mutations of data sets for `benchmarks.fuzz_data`: each changes one thing in the first scene of a
small set, and lists the episodes that it affects.

Scenes have three episodes. A mutation is harmful (an error must name it), or harmless (it must
pass).
"""

from benchmarks.mutations.arrays import column_mutations, image_mutations
from benchmarks.mutations.common import LINES, Mutation
from benchmarks.mutations.meta_files import folder_mutations, line_mutations, random_mutations
from benchmarks.mutations.values import meaning_mutations, special_mutations


def all_mutations(seed: int) -> list[Mutation]:
    """The mutations of the three formats, in a fixed order; `seed` chooses the damaged bytes."""
    found = []
    for kind in LINES:
        found += line_mutations(kind)
        found += column_mutations(kind)
        found += image_mutations(kind)
        found += folder_mutations(kind)
        found += random_mutations(kind, seed)
    return [*found, *special_mutations(), *meaning_mutations()]
