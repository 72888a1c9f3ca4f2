"""Report C's training of LeNet-5, rewritten: python lenet5_script.py DATA EPOCHS THREADS.

DATA is torchvision's folder for MNIST (with MNIST/raw). Prints the test accuracy after every epoch, like the
report's log.
"""

import sys
from pathlib import Path

import torch
from torch import nn, optim
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))

from lenet5 import LeNet5
from torchvision_import import import_torchvision

BATCH_SIZE, LEARNING_RATE = 64, 0.001


def main(data: str, epochs: int) -> None:
    """Trains with Adam and tests after every epoch."""
    torchvision = import_torchvision()
    transforms = torchvision.transforms
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    train, test = (
        torchvision.datasets.MNIST(data, train=is_train, download=False, transform=transform)
        for is_train in (True, False)
    )
    train_loader = DataLoader(train, batch_size=BATCH_SIZE, shuffle=True)
    test_loader = DataLoader(test, batch_size=BATCH_SIZE, shuffle=False)
    network = LeNet5()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for epoch in range(1, epochs + 1):
        network.train()
        running_loss = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(epoch, running_loss / len(train_loader), _accuracy(network, test_loader), flush=True)


def _accuracy(network: nn.Module, loader: DataLoader) -> float:
    network.eval()
    correct = seen = 0
    with torch.no_grad():
        for images, labels in loader:
            correct += (network(images).argmax(1) == labels).sum().item()
            seen += len(labels)
    return correct / seen


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    main(sys.argv[1], int(sys.argv[2]))
