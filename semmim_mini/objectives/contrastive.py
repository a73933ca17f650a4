r"""Image–text contrast (ITC): the caption of an image is nearer to it than any other caption.

$$ \mathcal{L}_{\text{ITC}} = \tfrac12\Big[ H\big(y^{i2t}, \mathrm{softmax}(I\,T_*^\top/\tau)\big)
   + H\big(y^{t2i}, \mathrm{softmax}(T\,I_*^\top/\tau)\big) \Big] $$

Keys $T_*, I_*$ are the batch and a queue of earlier teacher features [F: ALBEF, MoCo]. The targets $y$ mix the truth with what the
teacher thinks, because captions of *other* images are often true as well [F: ALBEF]:

$$ y = \alpha\,\mathrm{softmax}(\text{teacher similarity}/\tau) + (1-\alpha)\,\text{truth}. $$

The truth is uniform over all keys with the same image id: another caption of the same picture is a positive, never a negative.
Chance: ln(number of keys).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def similarities(
    query: Float[Tensor, "b p"], keys: Float[Tensor, "keys p"], temperature: Float[Tensor, ""] | float
) -> Float[Tensor, "b keys"]:
    """Cosine over temperature of every query with every key: the logits of ITC.

    fp32 even under autocast, which would round the cosines of every product: they are divided by temperatures as small as 0.001.
    """
    with torch.autocast(query.device.type, enabled=False):
        return query.float() @ keys.float().T / temperature


def itc_loss(
    image: Float[Tensor, "b p"],
    text: Float[Tensor, "b p"],
    image_keys: Float[Tensor, "keys p"],
    text_keys: Float[Tensor, "keys p"],
    ids: Int[Tensor, "b"],
    key_ids: Int[Tensor, "keys"],
    temperature: Float[Tensor, ""] | float,
    alpha: float = 0.0,
    teacher_image: Float[Tensor, "b p"] | None = None,
    teacher_text: Float[Tensor, "b p"] | None = None,
    teacher_image_keys: Float[Tensor, "keys p"] | None = None,
    teacher_text_keys: Float[Tensor, "keys p"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE with soft targets. All features are L2-normalised.

    Where all similarities are equal, the loss is ln(number of keys); with one pair and no queue, exactly 0 and without gradient.

    Args:
        image_keys, text_keys: batch features (of the teacher, or of the student with gradients) and behind them the queue.
        ids, key_ids: image identity of queries and keys; equal ids are positives. Every id must be among the key ids, as it is
            where the batch itself is among the keys; a query without any positive makes the loss NaN.
        alpha: share of the teacher's similarity in the targets; its four tensors are needed only when alpha > 0.
    """
    truth = (ids[:, None] == key_ids[None, :]).float()
    truth = truth / truth.sum(dim=1, keepdim=True)

    def direction(query, keys, teacher_query, teacher_keys):
        target = truth
        if alpha > 0:
            target = (alpha * F.softmax(similarities(teacher_query, teacher_keys, temperature), dim=1) + (1 - alpha) * truth).detach()
        return -(target * F.log_softmax(similarities(query, keys, temperature), dim=1)).sum(dim=1).mean()

    i2t = direction(image, text_keys, teacher_image, teacher_text_keys)
    t2i = direction(text, image_keys, teacher_text, teacher_image_keys)
    return (i2t + t2i) / 2


@torch.no_grad()
def enqueue(queue: Tensor, rows: Tensor, pointer: int) -> int:
    """Write rows into a ring buffer from `pointer` on, in place; returns the next pointer. Any batch size wraps around."""
    rows = rows[-len(queue) :]  # of more rows than places, the newest stay
    places = (pointer + torch.arange(len(rows), device=queue.device)) % len(queue)
    queue[places] = rows.to(queue.dtype)
    return (pointer + len(rows)) % len(queue)
