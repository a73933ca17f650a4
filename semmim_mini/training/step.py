r"""One training step of SemMIM, from a batch to its losses. Read this module to see the method whole.

             views 1 and 2, clean                                caption
                  │                                                 │
    teacher     trunk ─┬─► branch, text-free ──► [CLS] codes   text encoder ─► words
                       └─► branch, words read ─► patch codes ◄──────┤
                relevance of patches to words ─► mask ◄─────────────┘

    student     clean views ───► [CLS] and patches ─► ITC, ITM, MLM, captioning; consensus with the teacher's [CLS] codes
                masked view 1 ─► trunk ─► branch, words of the student's own text encoder read ─► MIM on the teacher's patch codes

Order within a step [spec of the method, parts S and H as labelled in the modules it calls]:
    1  both texts of the step: the caption, and the caption with masked words
    2  teacher on clean views, no gradient: text-free [CLS] of both, text-injected patches of the masked view
    3  relevance → mask
    4  student on clean views → ITC, ITM, MLM, captioning, [CLS] of the consensus
    5  student on the masked view, text injected → codes of the masked patches only

Student passes [C]. `three` runs both views clean and view 1 masked. `two` runs view 1 clean and view 2 masked, and reads view 2's
[CLS] for the consensus from the masked trunk's text-free branch, as iBOT does: one image pass less, a harder consensus.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from semmim_mini.config import Config
from semmim_mini.model.layers import TextForImage
from semmim_mini.model.semmim import SemMIM
from semmim_mini.objectives import masked_image as mim
from semmim_mini.objectives.agreement import consensus_loss
from semmim_mini.objectives.code_loss_in_chunks import code_loss_in_chunks
from semmim_mini.objectives.contrastive import itc_loss, similarities
from semmim_mini.objectives.masked_language import IGNORE, caption_loss, mlm_loss
from semmim_mini.objectives.matching import itm_loss, sample_negatives
from semmim_mini.objectives.targets import centred_targets, sinkhorn_targets, update_center
from semmim_mini.training import processes
from semmim_mini.training.masks import Masker
from semmim_mini.training.schedules import Plan


@dataclass
class StepOutput:
    """What a step hands to the loop."""

    losses: dict[str, Tensor]  # unweighted, with gradients
    metrics: dict[str, Tensor] = field(default_factory=dict)  # detached, for the log
    remember: dict[str, Tensor] = field(default_factory=dict)  # for memory, written after the optimiser step


@dataclass
class Teaching:
    """What the teacher says about a batch."""

    words: Tensor  # text features (b, l, d)
    text: Tensor  # ITC feature of the caption (b, p)
    image: Tensor  # ITC feature of view 1 (b, p)
    trunk: Tensor  # trunk output of the masked view, for relevance
    clean: Tensor  # text-free tokens of the masked view (b, 1+n, d)
    patches: Tensor | None  # tokens (b, 1+n, d) that give the MIM targets, text-injected by default
    cls_directions: Tensor | None  # (v, b, z) where [CLS] lands in the encoding space


class SemMIMStep(nn.Module):
    """Losses of one batch. A module, so that data-parallel wrappers see one forward pass."""

    def __init__(self, model: SemMIM):
        super().__init__()
        self.model = model
        self.masker = Masker(model)

    @cached_property
    def config(self) -> Config:
        return self.model.config

    def forward(self, batch, plan: Plan, seed: int) -> StepOutput:
        """Losses of the terms that `plan` has switched on.

        Args:
            batch: `data.loader.Batch` of this process's slice.
            seed: of this step's random numbers, equal on all processes.
        """
        out, images, words = StepOutput({}), batch.images, batch.attention_mask
        draw = torch.Generator().manual_seed(seed)
        teaching = self.teach(batch, plan) if self.needs_teacher(plan) else None

        text, masked_text = self.read(batch, plan) if plan.has("itc", "itm", "mlm", "mim", "consensus") else (None, None)
        passes = 2 if plan.has("consensus") and self.config.losses.student_passes == "three" else 1
        clean = self.model.student.image(rearrange(images[:passes], "v b c h w -> (v b) c h w"))
        clean = rearrange(clean, "(v b) s d -> v b s d", v=passes)

        if plan.has("itc", "itm"):
            similarity = self.contrast(clean[0], text, teaching, batch, plan, out)
        if plan.has("itm", "mlm"):
            self.fuse(clean[0], text, masked_text, batch, plan, similarity if plan.has("itm") else None, draw, out)
        if plan.has("caption"):
            logits = self.model.decoder(batch.input_ids, words, clean[0])
            out.losses["caption"] = caption_loss(logits, batch.input_ids, words, processes.common_mean)
        if plan.has("mim", "consensus"):
            self.see(clean, text, teaching, batch, plan, draw, out)
        return out

    # 1 and 2: texts and teacher ---------------------------------------------------------------------------------------

    def read(self, batch, plan: Plan) -> tuple[Tensor, Tensor | None]:
        """Student features of the caption and, for MLM, of the caption with masked words; one pass for both."""
        ids, words = batch.input_ids, batch.attention_mask
        if not plan.has("mlm"):
            return self.model.student.text(ids, words), None
        both = self.model.student.text(torch.cat([ids, batch.mlm_ids]), torch.cat([words, words]))
        text, masked = both.chunk(2)
        return text, masked

    def needs_teacher(self, plan: Plan) -> bool:
        """Contrast with the student's own keys, no queue and hard targets asks nothing of the teacher."""
        losses = self.config.losses
        contrast_asks = losses.itc_keys == "teacher" or losses.queue > 0 or plan.alpha > 0
        return plan.has("mim", "consensus") or (plan.has("itc", "itm") and contrast_asks)

    @torch.no_grad()
    def teach(self, batch, plan: Plan) -> Teaching:
        """The teacher's view of the clean images; only what this step's losses read is computed."""
        teacher, losses = self.model.teacher, self.config.losses
        words = teacher.text(batch.input_ids, batch.attention_mask)
        views = 2 if plan.has("consensus") or (self.masked_view == 1 and plan.has("mim")) else 1
        trunk = teacher.image.trunk(rearrange(batch.images[:views], "v b c h w -> (v b) c h w"))
        clean = rearrange(teacher.image.branch(trunk), "(v b) s d -> v b s d", v=views)
        at = self.masked_view if views == 2 else 0
        trunk = rearrange(trunk, "(v b) s d -> v b s d", v=views)[at]

        patches, cls = None, clean[:, :, 0]
        if plan.has("mim") and losses.mim_target == "codes":
            patches = clean[at]
            if losses.mim_target_text:
                patches = teacher.image.branch(trunk, teacher.image.read(words, batch.attention_mask))
                cls = cls if self.config.image.isolation == "fork" else _with_view(cls, at, patches[:, 0])
        return Teaching(
            words=words,
            text=teacher.project_text(words[:, 0]),
            image=teacher.project_image(clean[0, :, 0]),
            trunk=trunk,
            clean=clean[at],
            patches=patches,
            cls_directions=teacher.space.cls.direction(cls) if plan.has("consensus") else None,
        )

    @property
    def masked_view(self) -> int:
        return 1 if self.config.losses.student_passes == "two" else 0

    # 4: image and text ------------------------------------------------------------------------------------------------

    def contrast(self, image: Tensor, text: Tensor, teaching: Teaching | None, batch, plan: Plan, out: StepOutput) -> Tensor:
        """ITC; returns the in-batch similarity (own rows, everybody's columns) from which ITM draws its negatives."""
        model, losses = self.model, self.config.losses
        mine = model.student.project_image(image[:, 0]), model.student.project_text(text[:, 0])
        ids, tau = processes.gather(batch.image_ids), model.itc_temperature()
        theirs = None if teaching is None else (processes.gather(teaching.image), processes.gather(teaching.text))
        batch_keys = theirs if losses.itc_keys == "teacher" else tuple(processes.gather(x) for x in mine)
        image_queue, text_queue, id_queue = model.memory.pairs()
        if plan.has("itc"):
            soft = {}
            if plan.alpha > 0:
                soft = dict(
                    alpha=plan.alpha,
                    teacher_image=teaching.image,
                    teacher_text=teaching.text,
                    teacher_image_keys=torch.cat([theirs[0], image_queue]),
                    teacher_text_keys=torch.cat([theirs[1], text_queue]),
                )
            out.losses["itc"] = itc_loss(
                *mine,
                image_keys=torch.cat([batch_keys[0], image_queue]),
                text_keys=torch.cat([batch_keys[1], text_queue]),
                ids=batch.image_ids,
                key_ids=torch.cat([ids, id_queue]),
                temperature=tau,
                **soft,
            )
        similarity = similarities(mine[0], batch_keys[1], tau).detach()
        hits = similarity.masked_fill(batch.image_ids[:, None] == ids[None, :], float("-inf")).amax(1) < self._own(similarity)
        out.metrics |= {"itc_accuracy": hits.float().mean(), "itc_temperature": tau.detach()}
        out.metrics["itc_keys"] = torch.tensor(float(len(ids) + len(id_queue)))
        if losses.queue > 0:
            out.remember |= {"image": theirs[0].detach(), "text": theirs[1].detach(), "ids": ids}
        return torch.stack([similarity, similarities(mine[1], batch_keys[0], tau).detach()])

    @staticmethod
    def _own(similarity: Tensor) -> Tensor:
        """Similarity of each row with its own pair: columns of this process start at rank · b."""
        rows = torch.arange(len(similarity), device=similarity.device)
        return similarity[rows, rows + processes.rank() * len(similarity)]

    def fuse(self, image, text, masked_text, batch, plan: Plan, similarity, draw: torch.Generator, out: StepOutput) -> None:
        """ITM and MLM through the fusion encoder, all its pairs in one pass."""
        words = batch.attention_mask
        texts, masks, images = [], [], []
        if plan.has("itm"):
            texts, masks, images, matched = self.matching_pairs(image, text, batch, similarity, plan.hardness, draw)
        if plan.has("mlm"):
            texts, masks, images = [*texts, masked_text], [*masks, words], [*images, image]
        length = max(x.shape[1] for x in texts)  # negatives of other processes may be longer
        fused = self.model.fusion(
            torch.cat([_lengthen(x, length) for x in texts]), torch.cat([_lengthen(x, length) for x in masks]), torch.cat(images)
        )
        if plan.has("itm"):
            logits, fused = self.model.itm_head(fused[: len(matched), 0]), fused[len(matched) :]
            out.losses["itm"] = itm_loss(logits, matched)
            right = (logits.argmax(dim=1) == matched).float()
            recall = [right[matched == label].mean() if (matched == label).any() else right.new_tensor(0.5) for label in (0, 1)]
            out.metrics["itm_balanced_accuracy"] = torch.stack(recall).mean()
        if plan.has("mlm"):
            hidden = batch.mlm_labels != IGNORE
            logits = self.model.mlm_head(fused[:, : hidden.shape[1]][hidden])
            out.losses["mlm"] = mlm_loss(logits, batch.mlm_labels[hidden], processes.common_mean)
            out.metrics["mlm_accuracy"] = mim.plain_mean((logits.argmax(dim=1) == batch.mlm_labels[hidden]).float())

    def matching_pairs(self, image, text, batch, similarity, hardness: float, draw: torch.Generator) -> tuple:
        """The true pairs, each image with a wrong text, each text with a wrong image. Rows without any candidate are left out."""
        words, ids = batch.attention_mask, batch.image_ids
        everyone = processes.gather(ids)
        uniform = torch.rand(2, len(everyone), len(everyone), generator=draw).to(image.device)
        wrong_text, wrong_image = (
            sample_negatives(sim, ids, everyone, processes.own_slice(u), hardness) for sim, u in zip(similarity, uniform, strict=True)
        )
        all_images, all_texts = processes.gather(image), processes.gather_padded(text)
        all_words = processes.gather_padded(words.float()) > 0
        has_text, has_image = wrong_text >= 0, wrong_image >= 0
        texts = [text, all_texts[wrong_text[has_text]], text[has_image]]
        masks = [words, all_words[wrong_text[has_text]], words[has_image]]
        images = [image, image[has_text], all_images[wrong_image[has_image]]]
        matched = torch.zeros(sum(map(len, texts)), dtype=torch.long, device=image.device)
        matched[: len(text)] = 1
        return texts, masks, images, matched

    # 3 and 5: consensus and masked image modelling --------------------------------------------------------------------

    def see(self, clean: Tensor, text: Tensor, teaching: Teaching, batch, plan: Plan, draw: torch.Generator, out: StepOutput) -> None:
        """Mask, masked pass, MIM and consensus."""
        model, losses, view = self.model, self.config.losses, self.masked_view
        cls = clean[:, :, 0]
        if plan.has("mim") or losses.student_passes == "two":
            mask = self.masker(teaching, batch, plan, draw)
            trunk = model.student.image.trunk(batch.images[view], mask)
            cls_reads = losses.mim_student_text and self.config.image.isolation != "fork"  # [CLS] is then taken from the branch that read
            if plan.has("mim") or cls_reads:
                patches = model.student.image.branch(trunk, self.injected_text(text, batch.attention_mask))
            if plan.has("consensus") and (cls_reads or losses.student_passes == "two"):
                own = patches if cls_reads else model.student.image.branch(trunk)
                cls = _with_view(cls, view, own[:, 0])
            if plan.has("mim"):
                out.losses["mim"] = self.mim(patches[:, 1:], mask, teaching, batch, plan, out)
            out.metrics["masked_share"] = mask.float().mean()
        if plan.has("consensus"):
            target = self.cls_targets(teaching.cls_directions, plan, out)
            logits = model.student.space.cls(cls)
            out.losses["consensus"] = consensus_loss(logits, target, self.config.teacher.student_temperature)

    def injected_text(self, text: Tensor, words: Tensor) -> TextForImage | None:
        return self.model.student.image.read(text, words) if self.config.losses.mim_student_text else None

    def mim(self, patches: Tensor, mask: Tensor, teaching: Teaching, batch, plan: Plan, out: StepOutput) -> Tensor:
        """The loss of the masked patches against the chosen kind of target. Unmasked patches are never projected."""
        model, config, hidden = self.model, self.config, patches[mask]
        if config.losses.mim_target == "codes":
            target, space = self.patch_targets(teaching.patches[:, 1:], mask, plan, out), model.student.space.patch
            directions, temperature = space.direction(hidden), config.teacher.student_temperature
            return code_loss_in_chunks(directions, space.vocabulary(), target, temperature, processes.common_mean)
        pixels = mim.patch_pixels(batch.images[self.masked_view], config.image.patch)[mask]
        if config.losses.mim_target == "pixels":
            return mim.pixel_loss(model.pixel_head(hidden), pixels, processes.common_mean)
        tokens = mim.nearest_token(pixels, model.codebook)
        return mim.token_loss(model.token_head(hidden), tokens, processes.common_mean)

    @torch.no_grad()
    def patch_targets(self, patches: Tensor, mask: Tensor, plan: Plan, out: StepOutput) -> Tensor:
        """The teacher's balanced codes of the masked patches (m, k)."""
        space, share = self.model.teacher.space.patch, self.config.teacher.per_image
        direction = space.direction(patches if share else patches[mask])
        if share:
            # What all patches of an image have in common is its gist, which the caption tells anyway [C].
            direction = F.normalize(direction - share * direction.mean(dim=1, keepdim=True), dim=-1)[mask]
        logits = space.score(direction)
        center, count = self.model.memory.patch_center, processes.total(torch.tensor(float(len(logits)), device=logits.device))
        target = self.balance(logits, center, plan)
        mean = processes.total(logits.sum(dim=0)) / count.clamp_min(1)
        out.remember["patch_logits"] = torch.where(count > 0, mean, center)  # where no patch is masked, the centre stays
        out.metrics |= describe(target, "patch")
        return target

    @torch.no_grad()
    def cls_targets(self, directions: Tensor, plan: Plan, out: StepOutput) -> Tensor:
        """The teacher's balanced [CLS] codes (v, b, k)."""
        space, memory = self.model.teacher.space.cls, self.model.memory
        logits = space.score(directions)
        if self.config.teacher.balance == "center":
            target = centred_targets(logits, memory.cls_center, plan.teacher_temperature)
        else:
            # Fewer images than prototypes cannot use them evenly: earlier [CLS] directions, scored anew, fill up the batch.
            older = space.score(memory.directions())
            rows = [torch.cat([processes.gather(view), older]) for view in logits]
            balanced = [sinkhorn_targets(r, plan.teacher_temperature)[: len(r) - len(older)] for r in rows]
            target = torch.stack([processes.own_slice(view) for view in balanced])
        everyone = processes.gather(rearrange(directions, "v b z -> b v z"))
        out.remember["directions"] = rearrange(everyone, "b v z -> (b v) z")
        out.remember["cls_logits"] = processes.average(logits.mean(dim=(0, 1)))
        out.metrics |= describe(rearrange(target, "v b k -> (v b) k"), "cls")
        return target

    def balance(self, logits: Tensor, center: Tensor, plan: Plan) -> Tensor:
        if self.config.teacher.balance == "center":
            return centred_targets(logits, center, plan.teacher_temperature)
        return sinkhorn_targets(logits, plan.teacher_temperature, total=processes.total)

    # afterwards -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def remember(self, notes: dict[str, Tensor]) -> None:
        """Write queues and centres, after the optimiser step: a batch is never its own negative, nor centred by itself."""
        memory, momentum = self.model.memory, self.config.teacher.center_momentum
        if "ids" in notes:
            memory.add_pairs(notes["image"], notes["text"], notes["ids"])
        if "directions" in notes:
            memory.add_directions(notes["directions"])
        for name, note in (("cls_center", "cls_logits"), ("patch_center", "patch_logits")):
            if note in notes:
                center = getattr(memory, name)
                center.copy_(update_center(center, notes[note], momentum))


def describe(target: Tensor, name: str) -> dict[str, Tensor]:
    """Collapse instruments of teacher codes (rows, k): entropy of one code, KL of their mean to uniform, prototypes in use."""
    mean = processes.average(target.sum(dim=0) / max(len(target), 1)).clamp_min(1e-12)
    used = processes.total(torch.bincount(target.argmax(dim=-1), minlength=target.shape[-1])) > 0
    return {
        f"{name}_entropy": processes.average(mim.plain_mean(torch.special.entr(target).sum(dim=-1))),
        f"{name}_kl_to_uniform": (mean * (mean * len(mean)).log()).sum(),
        f"{name}_prototypes_used": used.sum().float(),
    }


def _with_view(cls: Tensor, view: int, own: Tensor) -> Tensor:
    """[CLS] by view (v, b, d), with `own` (b, d) for one of them; it is the last where that one is not there yet."""
    views = list(cls)
    views[view : view + 1] = [own]
    return torch.stack(views)


def _lengthen(x: Tensor, length: int) -> Tensor:
    """Padded with zeros (False) to `length` tokens."""
    shape = list(x.shape)
    shape[1] = length - x.shape[1]
    return torch.cat([x, x.new_zeros(shape)], dim=1) if shape[1] else x
