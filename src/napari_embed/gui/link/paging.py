"""Pages over any number of ids: only the order is kept, never the pages."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_embed.errors import InputError

__all__ = ["EMPTY_SENTENCE", "ORDERS", "PAGE_SIZES", "Order", "Paging"]

PAGE_SIZES = (12, 32, 100)
Order = Literal["item", "random", "label", "given"]
ORDERS: tuple[Order, ...] = ("item", "random", "label")
"""What is always offered; "given" comes with a sequence."""
EMPTY_SENTENCE = "Select points to see their images"


class Paging:
    """A list of ids cut into pages, with a current page (counted from 0).

    Memory is one integer per id, whatever the number of pages.
    """

    def __init__(self, *, page_size: int = PAGE_SIZES[0], random_state: int = 0):
        self._given = np.zeros(0, dtype=np.int64)
        self._ids = self._given
        self._codes: NDArray[np.integer] | None = None
        self._order: Order = "item"
        self._sequence = self._given
        self._title = ""
        self._random_state = random_state
        self._page = 0
        self._page_size = page_size

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) all ids in the order shown."""
        return self._ids

    @property
    def page(self) -> int:
        """Current page, from 0."""
        return self._page

    @property
    def page_size(self) -> int:
        """Ids on a full page."""
        return self._page_size

    @property
    def order(self) -> Order:
        """How the ids are ordered."""
        return self._order

    @property
    def title(self) -> str:
        """What the order "given" is called: "score, smallest first"."""
        return self._title

    @property
    def n_pages(self) -> int:
        """Number of pages; 0 without ids."""
        return -(-len(self._ids) // self._page_size)

    @property
    def can_go_back(self) -> bool:
        """Whether there is a page before this one."""
        return self._page > 0

    @property
    def can_go_on(self) -> bool:
        """Whether there is a page after this one."""
        return self._page + 1 < self.n_pages

    def page_ids(self, page: int | None = None) -> NDArray[np.int64]:
        """Return the ids of a page (the current one by default)."""
        start = (self._page if page is None else page) * self._page_size
        return self._ids[max(start, 0) : start + self._page_size]

    def text(self) -> str:
        """Return "13-24 of 3,441 selected", or what to do if there is nothing."""
        if not len(self._ids):
            return EMPTY_SENTENCE
        start = self._page * self._page_size
        stop = min(start + self._page_size, len(self._ids))
        span = f"{start + 1:,}" if stop == start + 1 else f"{start + 1:,}-{stop:,}"
        return f"{span} of {len(self._ids):,} selected"

    def set_ids(self, ids: ArrayLike) -> None:
        """Replace the ids, in the order given, and go to the first page."""
        given = np.asarray(ids)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise InputError(
                f"ids must be a list of whole numbers; found shape {given.shape} of "
                f"{given.dtype}. Give the ids of the items."
            )
        self._given = given.astype(np.int64)
        self._page = 0
        self._sort()

    def set_codes(self, codes: NDArray[np.integer] | None) -> None:
        """Set the class per item (indexed by id, -1 missing), for order "label"."""
        self._codes = codes
        if self._order == "label":
            self._page = 0
            self._sort()

    def set_order(self, order: Order) -> None:
        """Order by "item" (as given), "random" or "label", and go to the first page.

        "given" is the order of the last `set_sequence`.
        """
        if order not in get_args(Order):
            raise InputError(f"no order {order!r}; choose one of {', '.join(ORDERS)}")
        self._order = order
        self._page = 0
        self._sort()

    def set_sequence(self, sequence: NDArray[np.integer], title: str) -> None:
        """Order as in ``sequence``, a permutation of all n ids; go to the first page.

        ``title`` says in words what order it is.
        """
        self._sequence, self._title = np.asarray(sequence), title
        self.set_order("given")

    def set_page_size(self, page_size: int) -> None:
        """Change the page size; the first picture of the page stays on the page."""
        if page_size < 1:
            raise InputError(f"a page holds at least 1 picture; found {page_size}")
        first = self._page * self._page_size
        self._page_size = int(page_size)
        self._page = first // self._page_size

    def jump(self, page: int) -> None:
        """Go to a page; beyond the ends it is the first or the last."""
        self._page = int(min(max(page, 0), max(self.n_pages - 1, 0)))

    def _sort(self) -> None:
        self._ids = self.arrange(self._given)

    def arrange(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return other ids in the present order; each id may occur once."""
        if self._order == "random":
            rng = np.random.default_rng(self._random_state)
            return rng.permutation(ids)
        if self._order == "label" and self._codes is not None:
            return ids[np.argsort(self._label_ranks(ids), kind="stable")]
        if self._order == "given" and len(self._sequence):
            # Linear in all n, where sorting a large selection would take ten times
            # as long.
            wanted = np.zeros(len(self._sequence), dtype=bool)
            known = ids[ids < len(wanted)]
            wanted[known] = True
            first = self._sequence[wanted[self._sequence]].astype(np.int64)
            return np.append(first, ids[ids >= len(wanted)])
        return ids

    def _label_ranks(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class per id, unknown ones last."""
        assert self._codes is not None
        last = np.iinfo(np.int64).max
        known = (ids >= 0) & (ids < len(self._codes))
        ranks = np.full(len(ids), last, dtype=np.int64)
        ranks[known] = self._codes[ids[known]]
        return np.where(ranks < 0, last, ranks)
