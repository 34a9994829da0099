#include <algorithm>

#include "tests/conformance/routing_inputs.h"

namespace moe::conformance {

template <>
Cases<RouterCounts> make_cases<RouterCounts>() {
  Cases<RouterCounts> list;
  for (const Sizes& sizes : kSizes) {
    for (const int64_t count : {1, 4}) {
      for (const bool padding : {false, true}) {
        Store& s = list.strided();
        const View group = groups(s, sizes.tokens, count, padding), chosen_by = groups(s, sizes.tokens, count, padding);
        // Some padding tokens have ids here, as if chosen under another mask: they count nowhere all the same.
        list.add(RouterCounts{.ids = choices(s, sizes, chosen_by),
                              .group = group,
                              .experts = sizes.experts,
                              .counts = s.random_indices({count, sizes.experts}, 0, 5)});
        for (const int64_t members : {2, 4}) {
          if (sizes.experts % members != 0) continue;
          list.add(RouterCounts{.ids = choices(s, sizes, chosen_by),
                                .group = group,
                                .experts = sizes.experts,
                                .counts = s.random_indices({count, sizes.experts / members}, 0, 5)},
                   "of groups");
        }
      }
    }
  }
  return list;
}

template <>
Cases<BalanceCoefficients> make_cases<BalanceCoefficients>() {
  Cases<BalanceCoefficients> list;
  for (const int64_t experts : {1, 6, 64}) {
    for (const int devices : {1, 2, 3, 32, static_cast<int>(experts)}) {
      if (experts % devices != 0) continue;
      for (const int64_t count : {0, 1, 5}) {
        for (const bool accumulate : {false, true}) {
          Store& s = list.strided();
          const Shape shape{count, experts};
          std::vector<int64_t> tokens(static_cast<size_t>(count));
          for (size_t g = 0; g < tokens.size(); ++g) tokens[g] = g % 2 == 0 ? 40 + static_cast<int64_t>(g) : 0;
          list.add(BalanceCoefficients{.counts = s.random_indices(shape, 0, 30),
                                       .group_tokens = s.indices({count}, tokens),
                                       .inv_tokens = s.constant(f32, {1}, 1.0 / 126),
                                       .top_k = static_cast<int>(std::min<int64_t>(experts, 6)),
                                       .alpha = 0.003f,
                                       .devices = devices,
                                       .coefficients = accumulate ? s.normal(f32, shape, 1e-3) : s.poison(f32, shape),
                                       .accumulate = accumulate},
                   fmt::format("devices={} accumulate={}", devices, accumulate));
          // Counts of groups of experts, and coefficients that are 0 for a fair share.
          list.add(BalanceCoefficients{.counts = s.random_indices({count, devices}, 0, 30),
                                       .group_tokens = s.indices({count}, tokens),
                                       .inv_tokens = s.constant(f32, {1}, 1.0 / 126),
                                       .top_k = 1,
                                       .alpha = 0.3f,
                                       .devices = devices,
                                       .offset = accumulate ? 1.0f : 0.0f,
                                       .coefficients = accumulate ? s.normal(f32, shape, 1e-3) : s.poison(f32, shape),
                                       .accumulate = accumulate},
                   fmt::format("columns={} accumulate={}", devices, accumulate));
        }
      }
    }
  }
  return list;
}

template <>
Cases<BalanceLoss> make_cases<BalanceLoss>() {
  Cases<BalanceLoss> list;
  for (const Sizes& sizes : kSizes) {
    for (const int64_t count : {1, 4}) {
      for (const bool padding : {false, true}) {
        Store& s = list.strided();
        list.add(BalanceLoss{.scores = softmax_scores(s, sizes.tokens, sizes.experts, 1),
                             .group = groups(s, sizes.tokens, count, padding),
                             .coefficients = s.normal(f32, {count, sizes.experts}, 1e-2),
                             .normalized = padding,
                             .loss = s.normal(f32, {1})},
                 fmt::format("normalized={}", padding));
      }
    }
  }
  return list;
}

template <>
Cases<GateLoss> make_cases<GateLoss>() {
  Cases<GateLoss> list;
  for (const Sizes& sizes : kSizes) {
    Store& s = list.strided();
    const View group = groups(s, sizes.tokens, 3, true), ids = choices(s, sizes, group);
    drop_some(s, ids);
    list.add(GateLoss{.gates = s.normal(f32, ids.shape),
                      .ids = ids,
                      .group = group,
                      .coefficients = s.normal(f32, {3, sizes.experts}, 1e-2),
                      .loss = s.normal(f32, {1})});
  }
  return list;
}

template <>
Cases<RouterZLoss> make_cases<RouterZLoss>() {
  Cases<RouterZLoss> list;
  for (const int64_t tokens : {0, 1, 7, 300, 5000}) {
    Store& s = list.contiguous();
    list.add(RouterZLoss{.log_sum = s.normal(f32, {tokens}, 3),
                         .group = groups(s, tokens, 1, true),
                         .inv_tokens = s.constant(f32, {1}, 1.0 / 126),
                         .weight = 0.25f,
                         .loss = s.normal(f32, {1})});
  }
  return list;
}

template <>
Cases<ExpertSums> make_cases<ExpertSums>() {
  Cases<ExpertSums> list;
  for (const Sizes& sizes : kSizes) {
    for (const int64_t count : {1, 4}) {
      Store& s = list.strided();
      const View group = groups(s, sizes.tokens, count, true), ids = choices(s, sizes, group);
      drop_some(s, ids);
      const View gates = s.poison(f32, ids.shape), scores = softmax_scores(s, sizes.tokens, sizes.experts, 1);
      oracle::compute(RouterGates{.scores = scores, .ids = ids, .gates = gates});
      const View sums = s.constant(f32, {count, sizes.experts}, 0.5);
      list.add(ExpertSums{.values = gates, .ids = ids, .group = group, .sums = sums}, "by id");
      list.add(ExpertSums{.values = scores, .group = group, .sums = s.copy(sums)}, "by column");
    }
  }
  return list;
}

template <>
Cases<VariationLoss> make_cases<VariationLoss>() {
  Cases<VariationLoss> list;
  for (const int64_t experts : {1, 2, 6, 64}) {
    for (const int64_t count : {0, 1, 5}) {
      for (const int parts : {1, 2, 3}) {
        Store& s = list.strided();
        const View sums = s.constant(f32, {count, experts}, 0);
        for (int64_t g = 0; g < count; ++g) {
          for (int64_t e = 0; e < experts && g != 3; ++e) {  // one group without tokens
            static_cast<float*>(sums.at(g).data)[e] =
                static_cast<float>(s.draw() % 1000) / 64.0f + (e == 0 ? 1.0f : 0.0f);
          }
        }
        list.add(VariationLoss{.sums = sums,
                               .group_tokens = s.random_indices({count}, 1, 40),
                               .inv_tokens = s.constant(f32, {1}, 1.0 / 126),
                               .weight = 0.1f,
                               .loss = parts & 1 ? s.normal(f32, {1}) : View{},
                               .coefficients = parts & 2 ? s.poison(f32, {count, experts}) : View{}});
      }
    }
  }
  return list;
}

template <>
Cases<BiasUpdate> make_cases<BiasUpdate>() {
  Cases<BiasUpdate> list;
  for (const int64_t experts : {1, 4, 64, 300}) {
    for (const int most : {1, 3, 100}) {  // 1: all equal, so that nothing changes
      Store& s = list.contiguous();
      list.add(
          BiasUpdate{.counts = s.random_indices({experts}, 0, most), .rate = 0.001f, .bias = s.normal(f32, {experts})},
          fmt::format("most={}", most));
    }
  }
  return list;
}

}  // namespace moe::conformance
