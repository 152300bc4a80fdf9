"""Train two towers in one process or several, with the same result.

python -m workbench.training.torchrun_example
torchrun --nproc-per-node 2 -m workbench.training.torchrun_example

Each process encodes its own rows; `clip_loss(group=...)` compares those of all.
"""

import argparse

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from workbench.losses import clip_loss
from workbench.training.distributed import join, own_part, undo_averaging


class TwoTowers(nn.Module):
    def __init__(self, d: int):
        super().__init__()
        self.image, self.text = (nn.Sequential(nn.Linear(d, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(2))
        self.log_scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.image(images), self.text(texts), self.log_scale.exp()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=513, help="rows of all processes together; need not divide")
    options = parser.parse_args()

    group = join()
    device = torch.device("cuda" if group is not None and "nccl" in dist.get_backend(group) else "cpu")
    torch.manual_seed(0)
    model: nn.Module = TwoTowers(20).to(device)
    if group is not None:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    part = own_part(options.batch, group)
    for step in range(options.steps):
        # Every process makes the same batch and takes its part; a real program loads only that part.
        shared = torch.randn(options.batch, 20, generator=torch.Generator().manual_seed(step))
        images, texts = shared[part].to(device), shared.flip(1)[part].to(device)
        image, text, scale = model(images, texts)
        loss = clip_loss(undo_averaging(image, group), undo_averaging(text, group), logit_scale=scale, group=group)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if group is None or dist.get_rank() == 0:
            print(f"step {step} loss {loss.item():.5f}")
    if group is not None:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
