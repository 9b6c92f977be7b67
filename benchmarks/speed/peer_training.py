"""lightly's SimCLR as its examples train it, for training.py; runs in the peers' environment."""

import contextlib
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

STATE = {}
"""What has to live as long as the process."""


def import_torchvision():
    """torchvision beside a torch that its compiled operators do not fit: their schemas are declared before."""
    try:
        import torchvision
    except RuntimeError:
        STATE["library"] = library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


class Pictures(Dataset):
    """Images as PIL images, through lightly's transform."""

    def __init__(self, path, transform):
        self.images, self.transform = np.load(path, allow_pickle=False), transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index].squeeze()))


def conv_net(channels, side):
    """The conv net of arXiv 2410.06993 up to its 128 features."""
    layers = []
    for after in (32, 64, 128):
        layers += [
            nn.Conv2d(channels, after, 3, padding=1),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.01),
        ]
        channels, side = after, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, 128)), 128


def resnet18(channels):
    """ResNet-18 with the stem for CIFAR, without its last layer."""
    net = import_torchvision().models.resnet18(weights=None)
    net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    net.maxpool, net.fc = nn.Identity(), nn.Identity()
    return net, 512


def transform_for(channels, side):
    """SimCLR's transform as lightly advises for small images."""
    from lightly.transforms.simclr_transform import SimCLRTransform

    gray = {"normalize": {"mean": [0.5], "std": [0.5]}} if channels == 1 else {}
    blur = 0.5 if side > 40 else 0.0
    return SimCLRTransform(input_size=side, cj_strength=0.5, gaussian_blur=blur, **gray)


def simclr(path, batch, steps, workers, warm_up=1):
    """Seconds of ``steps`` steps after ``warm_up``; the loader shuffles, transforms and collates as it goes."""
    return {"seconds": timed(*made(path, batch, workers, seed=0), steps, warm_up)}


def made(path, batch, workers, seed):
    """Loader, model, criterion, optimiser and device of lightly's example."""
    import_torchvision()
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    channels, side = shape[3], shape[1]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    backbone, width = conv_net(channels, side) if channels == 1 else resnet18(channels)
    model = nn.Sequential(backbone, SimCLRProjectionHead(width, width, 128)).to(device)
    criterion, optimizer = NTXentLoss(), torch.optim.SGD(model.parameters(), lr=0.06)
    loader = DataLoader(
        Pictures(path, transform_for(channels, side)),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
    )
    return loader, model, criterion, optimizer, device


def simclr_begin(path, batch, workers, seed):
    """A training that goes on with every ``simclr_epoch``."""
    STATE["training"] = made(path, batch, workers, seed)


def simclr_epoch():
    """One epoch more; its seconds."""
    loader, model, criterion, optimizer, device = STATE["training"]
    model.train()
    began = time.perf_counter()
    for views in loader:
        first, second = (view.to(device) for view in views)
        loss = criterion(model(first), model(second))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    synchronise(device)
    return {"seconds": time.perf_counter() - began}


@torch.no_grad()
def simclr_features(path, out):
    """The features (n, width) before the projection head, of images (n, h, w, c), to the file ``out``."""
    _, model, _, _, device = STATE["training"]
    model.eval()
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    rows = []
    for start in range(0, len(images), 1000):
        pixels = torch.from_numpy(np.array(images[start : start + 1000])).permute(0, 3, 1, 2)
        rows.append(model[0](((pixels.float() / 255 - 0.5) / 0.5).to(device)).cpu().numpy())
    np.save(out, np.concatenate(rows))


def timed(loader, model, criterion, optimizer, device, steps, warm_up):
    """Of the steps after the first few; epochs follow one another as in lightly's examples."""
    done, began = 0, 0.0
    while True:
        for views in loader:
            if done == warm_up:
                synchronise(device)
                began = time.perf_counter()
            first, second = (view.to(device) for view in views)
            loss = criterion(model(first), model(second))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done == warm_up + steps:
                synchronise(device)
                return time.perf_counter() - began


def synchronise(device):
    """Wait for the accelerator."""
    with contextlib.suppress(AssertionError, RuntimeError):
        if device == "cuda":
            torch.cuda.synchronize()


WORK = {
    "simclr": simclr,
    "simclr_begin": simclr_begin,
    "simclr_epoch": simclr_epoch,
    "simclr_features": simclr_features,
}
