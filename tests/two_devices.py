"""Tensors that claim to be on several devices: mixing them fails as it does on real ones, with numbers from the CPU."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

CPU = torch.device("cpu")
FACTORIES = {torch.tensor, torch.arange, torch.empty, torch.zeros, torch.ones, torch.full, torch.as_tensor, torch.randn}
COPIES = {torch.Tensor.copy_}
"""Operations that torch allows between devices."""


def place_of(tensor: Tensor) -> torch.device:
    return tensor.__dict__.get("place", CPU)


class Placed(TorchFunctionMode):
    """Inside, `tensor.to(device)` and `device=` only label a tensor; two labels in one operation are an error."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func == Tensor.device.__get__:
            return place_of(args[0])
        if func is torch.autograd.grad:
            return tuple(label(g, place_of(x)) for g, x in zip(func(*args, **kwargs), args[1], strict=True))
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        if func in (Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.item):
            target = CPU
            if func is Tensor.numpy and place_of(args[0]) != CPU:
                raise RuntimeError("numpy() of a tensor that is not on the CPU")
        elif func is Tensor.to and (moved := _target(args[1:], kwargs)) is not None:
            target = moved
            args = (args[0], *(a for a in args[1:] if not isinstance(a, torch.device | str)))
            kwargs.pop("device", None)
            if len(args) == 1 and not kwargs:
                return label(args[0].view_as(args[0]), target)
        elif func in FACTORIES or kwargs.get("device") is not None:
            target = torch.device(kwargs.pop("device", None) or CPU)
        else:
            target = self._common(name, func, tensors, args)
        out = func(*args, **kwargs)
        return tree_map(lambda x: label(x, target) if isinstance(x, Tensor) else x, out)

    @staticmethod
    def _common(name: str, func: Any, tensors: Iterable[Tensor], args: Any) -> torch.device:
        places = {place_of(t) for t in tensors if t.ndim}
        if len(places) > 1 and func not in COPIES:
            is_index = name in ("__getitem__", "__setitem__")  # indices may be on the CPU, sources may not
            on_cpu = places - {CPU}
            if not (is_index and len(on_cpu) == 1 and place_of(args[0]) != CPU and name == "__getitem__"):
                raise RuntimeError(f"{name}: tensors on two devices: {sorted(map(str, places))}")
            return place_of(args[0])
        return next(iter(places)) if len(places) == 1 else place_of(args[0]) if tensors and args else CPU


def _target(args: Iterable[Any], kwargs: dict) -> torch.device | None:
    given = [a for a in (*args, kwargs.get("device")) if isinstance(a, torch.device | str)]
    return torch.device(given[0]) if given else None


def label(tensor: Tensor, device: torch.device) -> Tensor:
    tensor.place = device
    return tensor


def spread(model: Any, devices: list[str]) -> None:
    """Labels a model's blocks with devices in turn, and moves what enters them, as accelerate's hooks do."""
    first, last = torch.device(devices[0]), torch.device(devices[-1])
    for parameter in [*model.hf.parameters(), *model.hf.buffers()]:
        label(parameter, first)
    tied = model.head_weight is model.hf.get_input_embeddings().weight
    modules = [(model.final_norm, last), (model.hf.get_output_embeddings(), first if tied else last)]
    per_device = -(-model.n_layers // len(devices))
    modules += [(block, torch.device(devices[i // per_device])) for i, block in enumerate(model.blocks)]
    for module, device in modules:
        for parameter in [*module.parameters(), *module.buffers()]:
            label(parameter, device)

        def move(module, args, kwargs, device=device):
            return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, (args, kwargs))

        module.register_forward_pre_hook(move, with_kwargs=True)
    model.device = first
