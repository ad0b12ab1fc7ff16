"""What the category that a detector gave to a thing says of a product.

Agreement says little, since look-alikes mostly are of one category. Disagreement says much, but only if the catalogue
names categories as the detector does: a shop whose mugs are "Home > Kitchen > Mugs" does not disagree with "drinkware".
So it counts where both are of the suite's own categories, and neither is a part of the other: "fashion" and "footwear"
do not disagree. A thing of a category that the catalogue does not sell is then like all products a little less, and
sooner NO_MATCH.
"""

from shoppable.runtime.categories import lineage, packaged_categories

# Half of a usual margin: agreement decides near ties only.
AGREES = 0.02
# Chosen on the sample film. Of things whose kind is not in the catalogue, it takes those called a MATCH from 0.11 to
# 0.01; where the detector is wrong each time, recall@1 is still 0.98, and 0.83 instead of 0.89 are called a MATCH.
DISAGREES = -0.1


def worth(hint: str, category: str) -> float:
    """Return by how much more similar a product of a category counts as, under a hint; either may be empty."""
    hint, category = hint.casefold(), category.casefold()
    if not hint or not category:
        return 0.0
    if hint == category:
        return AGREES
    known = packaged_categories()
    if hint not in known or category not in known:
        return 0.0
    return 0.0 if hint in lineage(category, known) or category in lineage(hint, known) else DISAGREES
