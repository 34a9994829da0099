"""The optimizers of a training case, torch's own: AdamW for all, or Muon for the layers' matrices and AdamW for the rest."""

import torch


def is_hidden_matrix(name, leaf):
    """What Muon updates: matrices of the layers, but no routers."""
    return leaf.dim() == 2 and name.startswith("model.layers.") and ".mlp.gate." not in name


def optimizers_of(plan, leaves):
    """Torch optimizers that together update every leaf. Weight decay is on matrices only."""
    muon = plan.optimizer == "muon"
    hidden = [leaf for name, leaf in leaves.items() if muon and is_hidden_matrix(name, leaf)]
    others = [leaf for name, leaf in leaves.items() if not (muon and is_hidden_matrix(name, leaf))]
    groups = [
        dict(params=[leaf for leaf in others if leaf.dim() > 1], weight_decay=plan.weight_decay),
        dict(params=[leaf for leaf in others if leaf.dim() == 1], weight_decay=0.0),
    ]
    optimizers = [torch.optim.AdamW(groups, betas=(plan.beta1, plan.beta2), eps=plan.eps)]
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden, weight_decay=plan.weight_decay, momentum=plan.momentum, nesterov=True,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers
