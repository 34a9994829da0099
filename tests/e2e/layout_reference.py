"""What each rank of a layout holds and sends, from a config.json: written from docs/paper.md section 2 and
docs/parallelism.md, not from the program. For the DeepSeekMoE family without a bias per expert.
"""


def tensors(config):
    """(stage-independent place, elements, divided over EP) of every tensor, in the order of the model. A place is
    "first", "last" or a layer. q, k and v are one tensor, so are gate and up; so are the matrices of all experts."""
    d, heads, kv = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or d // heads
    vocabulary = config["vocab_size"]
    yield "first", vocabulary * d, False
    for layer in range(config["num_hidden_layers"]):
        yield layer, d, False  # input_layernorm
        yield layer, (heads + 2 * kv) * head_dim * d, False
        yield layer, d * heads * head_dim, False
        yield layer, d, False  # post_attention_layernorm
        if is_moe(config, layer):
            experts, width = config["n_routed_experts"], config["moe_intermediate_size"]
            yield layer, experts * d, False  # the router
            yield layer, experts * 2 * width * d, True
            yield layer, experts * d * width, True
            shared = (config["n_shared_experts"] or 0) * width
        else:
            shared = config["intermediate_size"]
        if shared:
            yield layer, 2 * shared * d, False
            yield layer, d * shared, False
    yield "last", d, False  # the final norm
    if not config["tie_word_embeddings"]:
        yield "last", vocabulary * d, False


def is_moe(config, layer):
    return (bool(config["n_routed_experts"]) and layer >= config["first_k_dense_replace"]
            and layer % config["moe_layer_freq"] == 0)


def layers_of_stages(layers, stages):
    """The first stages have one more if the layers cannot be divided."""
    counts = [layers // stages + (1 if stage < layers % stages else 0) for stage in range(stages)]
    return [range(sum(counts[:stage]), sum(counts[:stage + 1])) for stage in range(stages)]


def today(config, ranks, weight_bytes):
    """(bytes of gradients, bytes of weights) that each rank of `moe train --ranks` sends in a step. Gradients: each rank
    adds up a part of a tensor, and sends the sum to the owner; small tensors go to the owner whole. In the first exchange every
    rank sends every other a message, if only an empty one. Weights: from the owner to all. A message has 16 bytes more than its
    contents."""
    others, header, whole = ranks - 1, 16, 32 << 10
    gradients, weights, owned = [0] * ranks, [0] * ranks, [0] * ranks
    for _, size, _ in sorted(tensors(config), key=lambda tensor: -tensor[1]):
        owner = min(range(ranks), key=lambda rank: (owned[rank], rank))
        owned[owner] += size
        weights[owner] += others * (weight_bytes * size + header)
        for rank in range(ranks):
            part = size * (rank + 1) // ranks - size * rank // ranks
            gradients[rank] += others * header
            if 4 * size <= whole:
                gradients[rank] += 4 * size if rank != owner else 0
            else:
                gradients[rank] += 4 * (size - part) + (header + 4 * part if rank != owner else 0)
    return list(zip(gradients, weights))


def plan(config, dp, ep, pp, weight_bytes, zero, rows, length, step_rows, recompute):
    """For each rank a dictionary with the names of `moe cost --json`."""
    state_bytes = 12 if weight_bytes == 2 else 8  # two moments in f32, and beside bf16 an f32 master
    microbatches = step_rows // (dp * ep * rows)
    tokens, hidden = rows * length, rows * length * config["hidden_size"] * weight_bytes
    chosen = config["num_experts_per_tok"] or 0
    ranks = []
    for stage, layers in enumerate(layers_of_stages(config["num_hidden_layers"], pp)):
        first, last = stage == 0, stage == pp - 1
        here = [(place, size // ep if divided else size, divided) for place, size, divided in tensors(config)
                if place in layers or (place == "first" and first) or (place == "last" and last)]
        # If the head is the embedding, the last stage has the matrix too, and the first one updates it.
        matrix = config["vocab_size"] * config["hidden_size"] if config["tie_word_embeddings"] and pp > 1 else 0
        owned, kept, owner = [0] * (dp * ep), [0] * (dp * ep), None
        for place, size, divided in sorted(here, key=lambda tensor: -tensor[1]):
            together = ep if divided else 1  # ranks that have one copy of the experts own their parts together
            begin = min(range(0, dp * ep, together), key=lambda rank: (sum(owned[rank:rank + together]), rank))
            for rank in range(begin, begin + together):
                owned[rank] += size
                kept[rank] += size
            owner = begin if place == "first" else owner
        if last and matrix:
            here.append(("head", matrix, False))
            kept[0] += matrix  # the first rank of the stage adds up its gradient

        everywhere = sum(size for _, size, divided in here if not divided)
        experts = sum(size for _, size, divided in here if divided)
        units = {}
        for number, (place, size, _) in enumerate(here):
            unit = place if isinstance(place, int) else f"alone {number}"
            units[unit] = units.get(unit, 0) + size
        largest = max(units.values())

        def collective(bytes_each):
            """Sent by each rank in a reduce-scatter or an all-gather, on average: (n - 1) / n of the bytes."""
            stage_part = (dp * ep - 1) * everywhere * bytes_each / (dp * ep)
            return stage_part + (dp - 1) * experts * bytes_each / dp

        forwards = 2 if recompute else 1
        moe_layers = sum(is_moe(config, layer) for layer in layers)
        ids, gates = 4 * tokens * chosen, 4 * tokens * chosen
        passes = microbatches * moe_layers * (ep - 1)
        sent = {
            "gradients": collective(4) * (1 if zero == 1 else microbatches),
            "weights": collective(weight_bytes) * (2 * microbatches if zero == 3 else 1),
            # Forward: tokens with ids and gates. Backward: the gradients of the outputs.
            "tokens": passes * (forwards * (hidden + ids + gates) + hidden),
            # Forward: outputs. Backward: gradients of tokens and of gates.
            "outputs": passes * (forwards * hidden + hidden + gates),
            "stages": microbatches * hidden * ((0 if last else 1) + (0 if first else 1)),
        }
        for rank, (updated, own) in enumerate(zip(owned, kept)):
            own_sent = dict(sent)
            own_sent["gradients"] += 4 * matrix if last and rank == 0 else 0
            own_sent["weights"] += weight_bytes * matrix if first and rank == owner else 0
            ranks.append({
                "stage": stage,
                "parameters": own if zero == 3 else everywhere + experts,
                "weights_bytes": min(everywhere + experts, own + 2 * largest) * weight_bytes if zero == 3
                else (everywhere + experts) * weight_bytes,
                "gradients_bytes": 4 * (everywhere + experts if zero == 1 else min(everywhere + experts, own + largest)),
                "optimizer_bytes": updated * state_bytes,
                "sent_bytes": own_sent,
            })
    return ranks
