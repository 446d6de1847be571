"""Images as they are decoded, with the latents from which they come.

Shapes: ``n`` images, ``c`` of them decoded at once, ``D`` latent (flattened), ``h`` and ``w`` sides of a grid of codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaectl.commands.shared.session import Session

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.distributions import Distribution

    from vaectl.data.examples import Examples
    from vaectl.model.vae import VAE
    from vaectl.output.arrays import Spool, Stream

    # latents (c, *Z), their indices (c, h, w) in the codebook, (c, 0) if there are none, and the likelihood there
    Chunk = tuple[Tensor, Tensor, Distribution]

# images decoded at once; fewer if they are large
CHUNK = 1000


@dataclass(frozen=True)
class Maker:
    """Decodes images chunk by chunk.

    Attributes:
        session: The run.
        model: Its model.
        n: Number of images.
        mode: A key of ``evaluation.reconstruction.VALUES``.
        keeps: Whether latents are kept for a file that holds them.
        progress: Called with the number of images done.
        block: The block in which the images are written; its end removes what was kept.
    """

    session: Session
    model: VAE
    n: int
    mode: str
    keeps: bool
    progress: Callable[[int], None]
    block: ExitStack

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images (n, C, H, W)."""
        return (self.n, *self.session.run.data_info.shape)

    @property
    def chunk(self) -> int:
        """Images decoded at once."""
        from vaectl.system.runtime import at_once

        return at_once(CHUNK, self.shape[1:])

    def samples(self, temperature: float) -> dict[str, Stream]:
        """Decode draws of the prior."""
        from vaectl.data.examples import given_for
        from vaectl.evaluation.latents import indices_of
        from vaectl.model.distributions.codes import tempered

        model = self.model
        # samples of a conditional model get the conditions of the test examples
        conditional = self.session.run.data_info.given > 0
        given = given_for(self.session.data().test, self.n, self.session.device) if conditional else None

        def chunks() -> Iterator[Chunk]:
            for start in range(0, self.n, self.chunk):
                size = min(self.chunk, self.n - start)
                conditions = None if given is None else given[start : start + size]
                z = tempered(model.prior_at(conditions), size, temperature)
                yield z, indices_of(model, z), model.decode(z, conditions)

        return self._streams(chunks())

    def reconstructions(self, examples: Examples, order: Tensor) -> dict[str, Stream]:
        """Decode the posterior means of the examples at ``order`` (n,), beside these and their labels."""
        import numpy as np
        import torch

        from vaectl.evaluation.latents import indices_of
        from vaectl.output.arrays import Stream

        parts = torch.split(order, self.chunk)

        def chunks() -> Iterator[Chunk]:
            for rows in parts:
                batch = examples.batch(rows).to(self.session.device)
                z = self.model.encode(batch).mean
                yield z, indices_of(self.model, z), self.model.decode(z, batch.given)

        originals = (examples.batch(rows).x.numpy() for rows in parts)
        return self._streams(chunks()) | {
            "originals": Stream(self.shape, np.dtype(np.float32), originals),
            "labels": Stream((self.n,), np.dtype(np.int64), [examples.labels[order].numpy()]),
        }

    def lines(self, examples: Examples, starts: Tensor, ends: Tensor, steps: int) -> dict[str, Stream]:
        """Decode ``steps`` points between the latents of each two examples, at ``starts`` and ``ends`` (n / steps,)."""
        import torch

        from vaectl.evaluation.latents import between

        together, device = max(1, self.chunk // steps), self.session.device

        def chunks() -> Iterator[Chunk]:
            for a, b in zip(torch.split(starts, together), torch.split(ends, together), strict=True):
                z, given = between(self.model, examples.batch(a).to(device), examples.batch(b).to(device), steps)
                # points between codes are no codes
                yield z, torch.empty(len(z), 0, dtype=torch.int64), self.model.decode(z, given)

        return self._streams(chunks(), coded=False)

    def _streams(self, chunks: Iterator[Chunk], *, coded: bool = True) -> dict[str, Stream]:
        """``images``, float32 (n, C, H, W), and if they are kept ``z`` (n, D) and of a codebook ``codes`` (n, h, w)."""
        import numpy as np

        from vaectl.output.arrays import Spool, Stream

        space = self.model.space
        z = self.block.enter_context(Spool((self.n, math.prod(space.shape)), np.dtype(np.float32)))
        codes = self.block.enter_context(Spool((self.n, *space.grid), np.dtype(np.int64)))
        images = Stream(self.shape, np.dtype(np.float32), self._decoded(chunks, z, codes))
        has_codes = coded and space.codebook_size > 0
        kept = {"z": z.stream(), **({"codes": codes.stream()} if has_codes else {})} if self.keeps else {}
        return {"images": images} | kept

    def _decoded(self, chunks: Iterator[Chunk], z: Spool, codes: Spool) -> Iterator[np.ndarray]:
        """The first ``n`` images, float32 (c, C, H, W) at a time; values may be outside [0, 1] if they are real."""
        from vaectl.evaluation.reconstruction import VALUES

        done = 0
        for latents, indices, px in chunks:
            images = VALUES[self.mode](px)[: self.n - done].float().cpu()
            if self.keeps:
                z.add(latents[: len(images)].flatten(1).cpu().numpy())
                codes.add(indices[: len(images)].cpu().numpy())
            yield images.numpy()
            done += len(images)
            self.progress(done)
