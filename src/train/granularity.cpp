#include "train/granularity.h"

#include "train/read_keys.h"

namespace moe {
namespace {

constexpr KeyRow<FullWidth> kRows[] = {
    row<FullWidth>("model.granularity", integer<&FullWidth::granularity>(1, kMostParts),
                   {.doc = "m: each full-width expert is split into so many experts, which set n_routed_experts, "
                           "num_experts_per_tok and moe_intermediate_size. m does not change the experts' parameters "
                           "and FLOPs",
                    .also = "split_factor fine_grained expert_granularity",
                    .shown_default = "1, with the next three"}),
    row<FullWidth>("model.full_width", integer<&FullWidth::width>(1, kMostWidth),
                   {.doc = "width of an expert before it is split",
                    .also = "full_intermediate_size",
                    .shown_default = "not used"}),
    row<FullWidth>("model.full_experts", integer<&FullWidth::experts>(1, kMostParts),
                   {.doc = "N: full-width experts, shared ones among them",
                    .also = "n_full_experts",
                    .shown_default = "not used"}),
    row<FullWidth>("model.full_experts_per_tok", integer<&FullWidth::experts_per_tok>(1, kMostParts),
                   {.doc = "how many full-width experts a token uses, shared ones among them",
                    .also = "full_top_k active_full_experts",
                    .shown_default = "not used"}),
};
constexpr const char* kSplit = kRows[0].key;
constexpr const char* kWidth = kRows[1].key;
constexpr const char* kExperts = kRows[2].key;
constexpr const char* kActive = kRows[3].key;
constexpr const char* kNames[] = {kSplit, kWidth, kExperts, kActive};
constexpr const char* kDerived[] = {"model.n_routed_experts", "model.num_experts_per_tok",
                                    "model.moe_intermediate_size"};

void require_all(Settings& settings, const FullWidth& full) {
  const auto need = [&](int64_t value, const char* key, const char* what) {
    if (value > 0) return;
    std::string given;
    for (const char* other : kNames) {
      if (settings.given(other)) given = other;
    }
    settings.fail_missing(key, fmt::format("{}, as {} is given", what, given));
  };
  need(full.width, kWidth, "the width of an expert before it is split");
  need(full.experts, kExperts, "the number of full-width experts");
  need(full.experts_per_tok, kActive, "how many full-width experts a token uses");
  for (const char* key : kDerived) {
    if (settings.given(key) && !settings.kept(key)) {
      settings.refuse(key, "to be left out, because model.full_experts sets it");
    }
  }
}

void expand(Settings& settings, const FullWidth& full, int64_t shared) {
  require_all(settings, full);
  const int64_t m = full.granularity;
  if (full.width % m != 0) {
    settings.refuse(kSplit, fmt::format("a divisor of model.full_width, which is {}", full.width));
  }
  if (full.experts_per_tok > full.experts) {
    settings.refuse(kActive, fmt::format("at most model.full_experts, which is {}", full.experts));
  }
  if (m * full.experts_per_tok <= shared) {
    settings.refuse(kSplit, fmt::format("at least {}, so that a token uses a routed expert beside the {} shared",
                                        shared / full.experts_per_tok + 1, shared));
  }
  settings.set(fmt::format("{}={}", kDerived[0], m * full.experts - shared));
  settings.set(fmt::format("{}={}", kDerived[1], m * full.experts_per_tok - shared));
  settings.set(fmt::format("{}={}", kDerived[2], full.width / m));
}

}  // namespace

std::span<const KeyRow<FullWidth>> full_width_keys() { return kRows; }

void expand_granularity(Settings& settings, int64_t shared) {
  FullWidth full;
  bool given = false;
  for (const KeyRow<FullWidth>& row : full_width_keys()) {
    keep_mistake_of(settings, row.key, [&] {
      const auto value = read_value(settings, row);
      if (!value) return;
      given = true;
      row.set(full, *value);
    });
  }
  if (!given || settings.has_mistakes()) return;
  keep_mistake_of(settings, kSplit,
                  [&] { expand(settings, full, settings.find<int64_t>("model.n_shared_experts").value_or(shared)); });
  for (const KeyRow<FullWidth>& row : full_width_keys()) settings.drop(row.key);
}

}  // namespace moe
