// Operations on few rows: fusions against their operations in turn, and recorded steps against steps that are queued
// one operation at a time. The bits must be equal.

#include <cmath>

#include "batch/token_buffers.h"
#include "infer/decode_graph.h"
#include "measure/model_types.h"
#include "measure/random_model.h"
#include "ops/overlap.h"
#include "ops/transfer.h"
#include "tests/backend/cuda/gpu_test.h"

namespace moe {
namespace {

class CudaFewRows : public GpuTest {
 protected:
  View matrix(DType dtype, Shape shape) {
    const View view = empty(dtype, shape);
    if (dtype == DType::i32) {
      gpu_->backend->run(Fill{.x = view.reshaped({view.elements()}), .value = -7});
    } else {
      gpu_->backend->run(Fill{.x = view, .value = 0.25});
    }
    return view;
  }
  std::vector<int32_t> ints(const View& view) {
    std::vector<int32_t> values(static_cast<size_t>(view.elements()));
    gpu_->device->download(values.data(), view.data, view.bytes());
    return values;
  }
};

TEST_F(CudaFewRows, AnActivatedProductHasTheBitsOfBothInTurn) {
  for (const int64_t rows : {1, 2, 7, 8, 9, 16, 17, 40}) {
    for (const Shape& weight : {Shape{2 * 96, 136}, Shape{2 * 1408, 2048}, Shape{2 * 13, 64}, Shape{2 * 24, 60}}) {
      SCOPED_TRACE(fmt::format("{} rows, weight {}", rows, weight.text()));
      const View x = floats(DType::bf16, {rows, weight[1]}), w = floats(DType::bf16, weight);
      std::vector<float> gate_up[2], y[2];
      for (const int fused : {0, 1}) {
        const View c = matrix(DType::bf16, {rows, weight[0]}), out = matrix(DType::bf16, {rows, weight[0] / 2});
        const Gemm product{.a = x, .b = w, .c = c, .transpose_b = true};
        const SwiGlu activation{.gate_up = c, .y = out};
        if (fused == 1) {
          gpu_->backend->run(ActivatedProduct{product, activation});
        } else {
          gpu_->backend->run(product);
          gpu_->backend->run(activation);
        }
        gate_up[fused] = values(c), y[fused] = values(out);
      }
      EXPECT_EQ(gate_up[0], gate_up[1]);
      EXPECT_EQ(y[0], y[1]);
    }
  }
}

TEST_F(CudaFewRows, ExpertsOfFewTokensHaveTheBitsOfTheirOperationsInTurn) {
  for (const std::vector<int32_t>& loads :
       {std::vector<int32_t>{1, 0, 0, 1, 1}, {0, 0, 3, 0, 1, 9, 2}, {17, 1, 0, 33, 16, 8, 5}, {0, 0, 1, 0}}) {
    const auto experts = static_cast<int64_t>(loads.size());
    std::vector<int32_t> begins{0}, tokens, slots;
    for (const int32_t count : loads) begins.push_back(begins.back() + count);
    const int64_t rows = begins.back() + 3, width = 104, hidden = 264;
    for (int64_t r = 0; r < rows; ++r) {
      tokens.push_back(static_cast<int32_t>(r * 7 % 11));
      slots.push_back(static_cast<int32_t>(rows - 1 - r));
    }
    const View offsets = integers(begins), x = floats(DType::bf16, {11, hidden}), picked = integers(tokens);
    const View gate_up_weight = floats(DType::bf16, {experts, 2 * width, hidden});
    const View down_weight = floats(DType::bf16, {experts, hidden, width});
    const View scale = floats(DType::f32, {rows}), index = integers(slots);
    std::vector<float> results[2][3];
    for (const int fused : {0, 1}) {
      const View c = matrix(DType::bf16, {rows, 2 * width}), y = matrix(DType::bf16, {rows, width}),
                 out = matrix(DType::bf16, {rows, hidden});
      const ExpertRows<SwiGlu> op{
          .first = {.a = x, .a_rows = picked, .offsets = offsets, .b = gate_up_weight, .c = c, .transpose_b = true},
          .activation =
              {.gate_up = c, .scale = scale, .scale_index = index, .row_count = offsets.rows(experts, 1), .y = y},
          .last = {.a = y, .offsets = offsets, .b = down_weight, .c = out, .transpose_b = true}};
      if (fused == 1) {
        gpu_->backend->run(op);
      } else {
        gpu_->backend->run(op.first);
        gpu_->backend->run(op.activation);
        gpu_->backend->run(op.last);
      }
      const View views[] = {c, y, out};
      for (int i = 0; i < 3; ++i) results[fused][i] = values(views[i]);
    }
    for (int i = 0; i < 3; ++i) EXPECT_EQ(results[0][i], results[1][i]) << "result " << i << ", " << experts;
  }
}

TEST_F(CudaFewRows, ARoutersLogitsOfManyTokensHaveTheBitsOfFew) {
  for (const int64_t experts : {8, 63, 64, 300}) {
    const View weight = floats(DType::bf16, {experts, 264});
    for (const int64_t tokens : {9, 17, 40, 64}) {
      SCOPED_TRACE(fmt::format("{} tokens, {} experts", tokens, experts));
      const View x = floats(DType::bf16, {tokens, 264});
      const View whole = matrix(DType::f32, {tokens, experts}), parts = matrix(DType::f32, {tokens, experts});
      gpu_->backend->run(Gemm{.a = x, .b = weight, .c = whole, .transpose_b = true});
      for (int64_t first = 0; first < tokens; first += 8) {
        const int64_t count = std::min<int64_t>(8, tokens - first);
        gpu_->backend->run(
            Gemm{.a = x.rows(first, count), .b = weight, .c = parts.rows(first, count), .transpose_b = true});
      }
      EXPECT_EQ(values(whole), values(parts));
    }
  }
}

TEST_F(CudaFewRows, RoutingInOneKernelIsTheOperationsInTurn) {
  for (const int64_t tokens : {1, 3, 8, 16, 17, 64}) {
    for (const int64_t experts : {8, 63, 64, 300}) {
      for (const int which : {0, 1, 2}) {
        SCOPED_TRACE(fmt::format("{} tokens, {} experts, {}", tokens, experts, which));
        const int64_t k = 6, slots = tokens * k;
        const View x = floats(DType::bf16, {tokens, 264}), weight = floats(DType::bf16, {experts, 264});
        const View bias = floats(DType::f32, {experts});
        std::vector<int32_t> group(static_cast<size_t>(tokens), 0);
        if (tokens > 2) group[1] = -1;
        const View groups = integers(group);
        std::vector<float> scores[2], gates[2];
        std::vector<int32_t> plan[2][5];
        for (const int fused : {0, 1}) {
          const View s = matrix(DType::f32, {tokens, experts}), g = matrix(DType::f32, {tokens, k});
          const View ids = matrix(DType::i32, {tokens, k}), offsets = matrix(DType::i32, {experts + 1}),
                     row_slot = matrix(DType::i32, {slots}), row_token = matrix(DType::i32, {slots}),
                     slot_row = matrix(DType::i32, {tokens, k});
          const bool limited = which == 2 && experts % 4 == 0;
          const RouteTokens op{
              .scores = {.x = x,
                         .weight = weight,
                         .scoring = which == 1 ? Scoring::sigmoid : Scoring::softmax,
                         .scores = s},
              .choice = {.scores = s,
                         .bias = which == 1 ? bias : View{},
                         .group = groups,
                         .limit = limited ? GroupLimit{.groups = 4, .used = 3, .best = 2} : GroupLimit{},
                         .ids = ids},
              .gates = {.scores = s,
                        .ids = ids,
                        .form = which == 1 ? GateForm::normalized : GateForm::score,
                        .gates = g},
              .plan = {
                  .ids = ids, .offsets = offsets, .row_slot = row_slot, .row_token = row_token, .slot_row = slot_row}};
          if (fused == 1) {
            gpu_->backend->run(op);
          } else {
            gpu_->backend->run(op.scores);
            gpu_->backend->run(op.choice);
            gpu_->backend->run(op.gates);
            gpu_->backend->run(op.plan);
          }
          scores[fused] = values(s), gates[fused] = values(g);
          const View views[] = {ids, offsets, row_slot, row_token, slot_row};
          for (int i = 0; i < 5; ++i) plan[fused][i] = ints(views[i]);
        }
        EXPECT_EQ(scores[0], scores[1]);
        EXPECT_EQ(gates[0], gates[1]);
        for (int i = 0; i < 5; ++i) EXPECT_EQ(plan[0][i], plan[1][i]) << i;
      }
    }
  }
}

TEST_F(CudaFewRows, RotationAppendAndAttentionAreAllInTurn) {
  struct Shape {
    int64_t heads, kv_heads, size, page;
    std::vector<int64_t> tokens;
    int32_t before = 3;  ///< position of the first token
    int processors = 0;  ///< that the kernels are told of; 0: all
  };
  std::vector<Shape> shapes{{16, 16, 128, 64, {1, 2, 3, 40}},
                            {8, 2, 64, 7, {1, 3, 40}},
                            {3, 1, 48, 1, {1, 3, 40}},
                            {4, 4, 20, 16, {1, 3, 40}}};
  // A single token's attention may be one kernel with its rotation and append.
  for (const int32_t before : {0, 1, 7, 8, 63, 64, 513, 1500}) {
    shapes.push_back({16, 16, 128, 64, {1}, before});
    shapes.push_back({3, 3, 64, 128, {1}, before});
    for (const int processors : {1, 8, 20, 40}) shapes.push_back({16, 16, 128, 64, {1}, before, processors});
  }
  for (const Shape& shape : shapes) {
    for (const DType cache : {DType::bf16, DType::f32}) {
      for (const int64_t tokens : shape.tokens) {
        SCOPED_TRACE(fmt::format("{} and {} heads of {}, {} tokens from {}, {} processors", shape.heads, shape.kv_heads,
                                 shape.size, tokens, shape.before, shape.processors));
        force_cuda_processors(shape.processors);
        const int64_t kv = shape.kv_heads * shape.size, width = shape.heads * shape.size, rotated = width + kv;
        const int64_t pages = (shape.before + 2 * tokens) / shape.page + 1;
        std::vector<int32_t> sequence, positions, listed;
        for (int32_t t = 0; t < static_cast<int32_t>(tokens); ++t) {
          sequence.push_back(t % 5 == 2 ? -1 : t % 2);
          positions.push_back(shape.before + t * 2);
        }
        for (int32_t p = 0; p < 2 * static_cast<int32_t>(pages); ++p)
          listed.push_back(2 * static_cast<int32_t>(pages) - 1 - p);
        const View numbers = floats(DType::bf16, {tokens, rotated + kv}),
                   table = floats(DType::f32, {tokens, shape.size});
        const View old_k = floats(cache, {2 * pages, shape.page, kv}),
                   old_v = floats(cache, {2 * pages, shape.page, kv});
        const View of = integers(sequence), at = integers(positions);
        const View in_order = integers(listed).reshaped({2, pages});
        std::vector<float> results[2][4];
        for (const int fused : {0, 1}) {
          const View qkv = matrix(DType::bf16, {tokens, rotated + kv}), out = matrix(DType::bf16, {tokens, width});
          gpu_->backend->run(Cast{.x = numbers, .y = qkv});
          const View k = matrix(cache, {2 * pages, shape.page, kv}), v = matrix(cache, {2 * pages, shape.page, kv});
          gpu_->backend->run(Cast{.x = old_k, .y = k});
          gpu_->backend->run(Cast{.x = old_v, .y = v});
          const RotatedAttention op{.rope = {.x = qkv.columns(0, rotated), .table = table},
                                    .append = {.k = qkv.columns(width, kv),
                                               .v = qkv.columns(rotated, kv),
                                               .sequence = of,
                                               .positions = at,
                                               .pages = in_order,
                                               .k_cache = k,
                                               .v_cache = v},
                                    .attention = {.q = qkv.columns(0, width),
                                                  .k_cache = k,
                                                  .v_cache = v,
                                                  .sequence = of,
                                                  .positions = at,
                                                  .pages = in_order,
                                                  .heads = static_cast<int>(shape.heads),
                                                  .kv_heads = static_cast<int>(shape.kv_heads),
                                                  .scale = 1 / std::sqrt(static_cast<float>(shape.size)),
                                                  .out = out}};
          if (fused == 1) {
            run(*gpu_->backend, op);
          } else {
            gpu_->backend->run(op.rope);
            gpu_->backend->run(op.append);
            gpu_->backend->run(op.attention);
          }
          const View views[] = {qkv, k, v, out};
          for (int i = 0; i < 4; ++i) results[fused][i] = values(views[i]);
        }
        EXPECT_NE(results[0][0], values(numbers));
        for (int i = 0; i < 4; ++i) EXPECT_EQ(results[0][i], results[1][i]) << "result " << i;
      }
    }
  }
}

TEST_F(CudaFewRows, RotationOfATokenWithoutASequenceGivesZeros) {
  const View qkv = floats(DType::bf16, {1, 3 * 256}), out = matrix(DType::bf16, {1, 256}),
             table = floats(DType::f32, {1, 128});
  const View k = floats(DType::bf16, {1, 64, 256}), v = floats(DType::bf16, {1, 64, 256});
  const View of = integers({-1}), at = integers({-3}), pages = integers({0}).reshaped({1, 1});
  const View expected = matrix(DType::bf16, {1, 3 * 256});
  gpu_->backend->run(Cast{.x = qkv, .y = expected});
  gpu_->backend->run(Rope{.x = expected.columns(0, 512), .table = table});
  const std::vector<float> keys = values(k), old_values = values(v);
  run(*gpu_->backend, RotatedAttention{.rope = {.x = qkv.columns(0, 512), .table = table},
                                       .append = {.k = qkv.columns(256, 256),
                                                  .v = qkv.columns(512, 256),
                                                  .sequence = of,
                                                  .positions = at,
                                                  .pages = pages,
                                                  .k_cache = k,
                                                  .v_cache = v},
                                       .attention = {.q = qkv.columns(0, 256),
                                                     .k_cache = k,
                                                     .v_cache = v,
                                                     .sequence = of,
                                                     .positions = at,
                                                     .pages = pages,
                                                     .heads = 2,
                                                     .kv_heads = 2,
                                                     .scale = 0.1F,
                                                     .out = out}});
  EXPECT_EQ(values(qkv), values(expected));
  EXPECT_EQ(values(k), keys);
  EXPECT_EQ(values(v), old_values);
  EXPECT_EQ(values(out), std::vector<float>(256));
}

/// A MoE layer with shared experts, of random numbers.
struct RoutedLayer {
  View hidden, residual, gain, router, group, shared_gate_up, shared_down, gate_up, down;

  /// The operation with all results in memory of its own, and those results.
  template <class Empty>
  RoutedFfn operation(const Empty& empty, std::vector<View>& results) const {
    const int64_t tokens = hidden.size(0), experts = router.size(0), k = 6, slots = tokens * k, width = down.size(2);
    const auto result = [&](DType dtype, Shape shape) {
      results.push_back(empty(dtype, shape));
      return results.back();
    };
    const View x = result(DType::bf16, hidden.shape), middle = result(DType::bf16, hidden.shape),
               inv_rms = result(DType::f32, {tokens});
    const View scores = result(DType::f32, {tokens, experts}), gates = result(DType::f32, {tokens, k}),
               ids = result(DType::i32, {tokens, k}), offsets = result(DType::i32, {experts + 1}),
               row_slot = result(DType::i32, {slots}), row_token = result(DType::i32, {slots}),
               slot_row = result(DType::i32, {tokens, k}), c = result(DType::bf16, {slots, 2 * width}),
               activated = result(DType::bf16, {slots, width}), rows = result(DType::bf16, {slots, x.size(1)}),
               shared_c = result(DType::bf16, {tokens, shared_gate_up.size(0)}),
               shared_y = result(DType::bf16, {tokens, shared_down.size(1)}),
               y = result(DType::bf16, {tokens, x.size(1)});
    return {
        .norm =
            {.x = hidden, .residual = residual, .sum = middle, .gain = gain, .eps = 1e-6F, .y = x, .inv_rms = inv_rms},
        .route = {.scores = {.x = x, .weight = router, .scoring = Scoring::softmax, .scores = scores},
                  .choice = {.scores = scores, .group = group, .ids = ids},
                  .gates = {.scores = scores, .ids = ids, .gates = gates},
                  .plan = {.ids = ids,
                           .offsets = offsets,
                           .row_slot = row_slot,
                           .row_token = row_token,
                           .slot_row = slot_row}},
        .shared = {.product = {.a = x, .b = shared_gate_up, .c = shared_c, .transpose_b = true},
                   .activation = {.gate_up = shared_c, .y = shared_y}},
        .shared_down = {.a = shared_y, .b = shared_down, .c = y, .transpose_b = true},
        .experts =
            {.first = {.a = x, .a_rows = row_token, .offsets = offsets, .b = gate_up, .c = c, .transpose_b = true},
             .activation = {.gate_up = c,
                            .scale = gates.reshaped({slots}),
                            .scale_index = row_slot,
                            .row_count = offsets.rows(experts, 1),
                            .y = activated},
             .last = {.a = activated, .offsets = offsets, .b = down, .c = rows, .transpose_b = true}},
        .combine = {.rows = rows, .slot_row = slot_row, .residual = middle, .y = y, .accumulate = true}};
  }
};

TEST_F(CudaFewRows, ALayerAtARecordingsEndIsCombined) {
  const int64_t tokens = 3, hidden = 1032, width = 104, experts = 16;
  const RoutedLayer layer{.hidden = floats(DType::bf16, {tokens, hidden}),
                          .residual = floats(DType::bf16, {tokens, hidden}),
                          .gain = floats(DType::bf16, {hidden}),
                          .router = floats(DType::bf16, {experts, hidden}),
                          .group = integers(std::vector<int32_t>(tokens, 0)),
                          .shared_gate_up = floats(DType::bf16, {4 * width, hidden}),
                          .shared_down = floats(DType::bf16, {hidden, 2 * width}),
                          .gate_up = floats(DType::bf16, {experts, 2 * width, hidden}),
                          .down = floats(DType::bf16, {experts, hidden, width})};
  const auto memory = [&](DType dtype, Shape shape) { return matrix(dtype, shape); };
  std::vector<View> results[2];
  const RoutedFfn in_turn = layer.operation(memory, results[0]), recorded = layer.operation(memory, results[1]);
  run_in_turn(*gpu_->backend, in_turn);
  const View doubled = matrix(DType::bf16, in_turn.combine.y.shape);
  gpu_->backend->run(Fill{.x = doubled.reshaped({doubled.elements()}), .value = 0});
  // Another operation than a norm behind one layer, and none behind the second.
  const auto recording = gpu_->device->record([&] {
    run(*gpu_->backend, recorded);
    gpu_->backend->run(Add{.x = recorded.combine.y, .y = doubled});
    run(*gpu_->backend, recorded);
  });
  recording->replay();
  EXPECT_EQ(values(in_turn.combine.y), values(recorded.combine.y));
  EXPECT_EQ(values(in_turn.combine.y), values(doubled));
}

TEST_F(CudaFewRows, LayersInOneOperationAreTheirPartsInTurn) {
  struct Kind {
    DType router;
    int64_t hidden;
  };
  const int64_t width = 104, experts = 16;
  for (const auto& [router, hidden] : {Kind{DType::f32, 1032}, Kind{DType::bf16, 264}, Kind{DType::bf16, 1032}}) {
    for (const int64_t tokens : {1, 2, 8, 16, 40, 64, 70}) {
      SCOPED_TRACE(fmt::format("{} tokens, router in {}, width {}", tokens, name(router), hidden));
      constexpr int kLayers = 3, kReplays = 20;
      std::vector<int32_t> group(static_cast<size_t>(tokens), 0);
      if (tokens > 2) group[1] = -1;
      std::vector<RoutedLayer> layers;
      std::vector<RoutedFfn> recorded;
      std::vector<RmsNorm> norms;  // of the layers' results
      std::vector<View> results[2];
      const auto memory = [&](DType dtype, Shape shape) { return matrix(dtype, shape); };
      for (int layer = 0; layer < kLayers; ++layer) {
        layers.push_back({.hidden = floats(DType::bf16, {tokens, hidden}),
                          .residual = floats(DType::bf16, {tokens, hidden}),
                          .gain = floats(router, {hidden}),
                          .router = floats(router, {experts, hidden}),
                          .group = integers(group),
                          .shared_gate_up = floats(DType::bf16, {4 * width, hidden}),
                          .shared_down = floats(DType::bf16, {hidden, 2 * width}),
                          .gate_up = floats(DType::bf16, {experts, 2 * width, hidden}),
                          .down = floats(DType::bf16, {experts, hidden, width})});
        const auto norm_of = [&](const View& y, std::vector<View>& all) {
          all.push_back(matrix(DType::bf16, y.shape));
          all.push_back(matrix(DType::f32, {tokens}));
          return RmsNorm{.x = y, .gain = layers.back().gain, .eps = 1e-6F, .y = all.end()[-2], .inv_rms = all.back()};
        };
        const RoutedFfn in_turn = layers.back().operation(memory, results[0]);
        run_in_turn(*gpu_->backend, in_turn);
        gpu_->backend->run(norm_of(in_turn.combine.y, results[0]));
        recorded.push_back(layers.back().operation(memory, results[1]));
        norms.push_back(norm_of(recorded.back().combine.y, results[1]));
      }
      const auto recording = gpu_->device->record([&] {
        for (size_t layer = 0; layer < recorded.size(); ++layer) {
          run(*gpu_->backend, recorded[layer]);
          gpu_->backend->run(norms[layer]);
        }
      });
      for (int replay = 0; replay < kReplays; ++replay) {
        for (const View& view : results[1]) {
          gpu_->backend->run(
              Fill{.x = view.reshaped({view.elements()}), .value = view.dtype == DType::i32 ? -7 : 0.25});
        }
        recording->replay();
        for (size_t i = 0; i < results[0].size(); ++i) {
          SCOPED_TRACE(fmt::format("result {}", i));
          if (results[0][i].dtype == DType::i32) {
            ASSERT_EQ(ints(results[0][i]), ints(results[1][i]));
          } else {
            ASSERT_EQ(values(results[0][i]), values(results[1][i]));
          }
        }
      }
    }
  }
}

/// Steps of `batch` sequences from one start; the log of what they chose, and the logits of the last one.
struct Steps {
  std::vector<int32_t> log;
  std::vector<float> logits;
  bool operator==(const Steps&) const = default;
};

class CudaDecodeGraph : public CudaFewRows {
 protected:
  static constexpr int64_t kPage = 16, kPages = 4, kSteps = 12;

  Steps take_steps(const Model& model, int64_t batch, bool recorded) {
    const ModelConfig& config = model.config();
    DeviceMemory memory(*gpu_->device);
    PassArenas arenas{memory.arena("inputs", size_t{64} << 20), memory.arena("saved", size_t{64} << 20),
                      memory.arena("scratch", size_t{64} << 20)};
    TokenBuffers tokens(arenas.inputs, DType::f32, batch, config.head_dim, batch, kPages);
    KvCache cache;
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      const Shape pages{batch * kPages, kPage, config.attention().kv_width()};
      cache.layers.push_back(
          {arenas.inputs.push("k", DType::bf16, pages), arenas.inputs.push("v", DType::bf16, pages)});
      gpu_->backend->run(Fill{.x = cache.layers.back().k, .value = 0});
      gpu_->backend->run(Fill{.x = cache.layers.back().v, .value = 0});
    }
    std::vector<int32_t> ids, sequence, positions;
    for (int32_t s = 0; s < static_cast<int32_t>(batch); ++s) {
      ids.push_back(s * 5 % 200);
      sequence.push_back(s);
      positions.push_back(s % 7);
      std::vector<int32_t> own;
      for (int32_t p = 0; p < kPages; ++p) own.push_back(p * static_cast<int32_t>(batch) + s);
      tokens.upload_pages(s, own, *gpu_->device);
    }
    const auto push = [&](DType dtype, Shape shape) { return arenas.inputs.push("result", dtype, shape); };
    const DecodeViews views{
        .tokens = tokens.upload_cached(ids, sequence, positions, config.rope_theta, *gpu_->device, *gpu_->backend),
        .logits = push(DType::f32, {batch, config.vocab_size}),
        .chosen = push(DType::i32, {batch})};
    std::vector<int32_t> log;
    DecodeGraph graph({model, DType::bf16, *gpu_->device, *gpu_->backend}, arenas, views, cache);
    for (int64_t step = 0; step < kSteps; ++step) {
      if (recorded) {
        graph.step();
      } else {
        decode_step(model, arenas, *gpu_->backend, DType::bf16, views, cache);
      }
      const std::vector<int32_t> chosen = ints(views.chosen);
      log.insert(log.end(), chosen.begin(), chosen.end());
    }
    if (recorded) {
      EXPECT_GT(graph.kernels(), 10);
    }
    return {log, values(views.logits)};
  }
};

TEST_F(CudaDecodeGraph, RecordedStepsHaveTheBitsOfQueuedOnes) {
  ModelConfig config = gpu_config();
  config.num_hidden_layers = 5;
  for (const DType type : {DType::bf16, DType::q8_0, DType::q4_0, DType::q6_k}) {
    const RandomModel weights(config, types_of_weights(config, type), *gpu_->device, *gpu_->backend);
    for (const int64_t batch : {1, 2, 8, 16, 40}) {
      SCOPED_TRACE(fmt::format("{}, {} sequences", name(type), batch));
      const Steps queued = take_steps(weights.model(), batch, false);
      for (int again = 0; again < 3; ++again) {
        const Steps recorded = take_steps(weights.model(), batch, true);
        EXPECT_EQ(queued.log, recorded.log);
        EXPECT_EQ(queued.logits, recorded.logits);
      }
      for (const int32_t id : queued.log) {
        EXPECT_GE(id, 0);
        EXPECT_LT(id, config.vocab_size);
      }
    }
  }
}

TEST_F(CudaDecodeGraph, AnErrorWhileRecordingLeavesTheDeviceUsable) {
  const View x = matrix(DType::f32, {4, 4});
  EXPECT_THROW(gpu_->device->record([&] {
    gpu_->backend->run(Fill{.x = x, .value = 3});
    fail("not this time");
  }),
               Error);
  EXPECT_EQ(values(x), std::vector<float>(16, 0.25f));
  const auto recording = gpu_->device->record([&] { gpu_->backend->run(Fill{.x = x, .value = 3}); });
  EXPECT_EQ(recording->kernels(), 1);
  EXPECT_EQ(values(x), std::vector<float>(16, 0.25f));
  recording->replay();
  EXPECT_EQ(values(x), std::vector<float>(16, 3.0f));
}

}  // namespace
}  // namespace moe
