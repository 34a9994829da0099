#include "infer/rank_calls.h"

namespace moe {
namespace {

void add(WordWriter& words, const TokenDraw& draw) {
  for (const int32_t word : words_of(draw)) words.add(word);
}

TokenDraw take_draw(WordReader& words) {
  DrawWords draw;
  for (int32_t& word : draw) word = words.take<int32_t>();
  return draw_of(draw);
}

}  // namespace

void add(WordWriter& words, const PagedSizes& sizes) {
  for (const int64_t size : {sizes.sequences, sizes.pages, sizes.pages_each, sizes.tokens, sizes.logits}) {
    words.add(size);
  }
  for (const bool flag : {sizes.scores, sizes.chosen_experts, sizes.chooses, sizes.penalties}) words.add(flag);
}

PagedSizes take_sizes(WordReader& words) {
  PagedSizes sizes;
  for (int64_t* const size : {&sizes.sequences, &sizes.pages, &sizes.pages_each, &sizes.tokens, &sizes.logits}) {
    *size = words.take<int64_t>();
  }
  for (bool* const flag : {&sizes.scores, &sizes.chosen_experts, &sizes.chooses, &sizes.penalties}) {
    *flag = words.take<bool>();
  }
  return sizes;
}

void add(WordWriter& words, const PagedPass& pass) {
  for (const auto* const ids :
       {&pass.ids, &pass.sequence, &pass.positions, &pass.wanted, &pass.scored, &pass.targets}) {
    words.add(*ids);
  }
  words.add(static_cast<int64_t>(pass.draws.size()));
  for (const TokenDraw& draw : pass.draws) add(words, draw);
  words.add(pass.chosen_experts);
}

PagedPass take_pass(WordReader& words) {
  PagedPass pass;
  for (auto* const ids : {&pass.ids, &pass.sequence, &pass.positions, &pass.wanted, &pass.scored, &pass.targets}) {
    *ids = words.take_all<int32_t>();
  }
  for (auto left = words.take<int64_t>(); left > 0; --left) pass.draws.push_back(take_draw(words));
  pass.chosen_experts = words.take<bool>();
  return pass;
}

void add(WordWriter& words, const std::vector<StepRow>& rows) {
  words.add(static_cast<int64_t>(rows.size()));
  for (const StepRow& row : rows) {
    for (const int32_t word : {row.sequence, row.id, row.position}) words.add(word);
    add(words, row.draw);
  }
}

std::vector<StepRow> take_rows(WordReader& words) {
  std::vector<StepRow> rows;
  for (auto left = words.take<int64_t>(); left > 0; --left) {
    StepRow row{};
    for (int32_t* const word : {&row.sequence, &row.id, &row.position}) *word = words.take<int32_t>();
    row.draw = take_draw(words);
    rows.push_back(row);
  }
  return rows;
}

void add(WordWriter& words, const RoutingSwitches& switches) {
  words.add(switches.experts_per_token);
  words.add(switches.skip);
  words.add(switches.drop_shared);
  words.add(static_cast<int64_t>(switches.masked.size()));
  for (const ExpertMask& mask : switches.masked) {
    words.add(mask.layer);
    words.add(mask.experts);
  }
  words.add(static_cast<int64_t>(switches.boosted.size()));
  for (const ExpertBoost& boost : switches.boosted) {
    words.add(boost.layer);
    words.add(boost.expert);
    words.add(boost.value);
  }
  words.add(switches.without_shared);
}

RoutingSwitches take_switches(WordReader& words) {
  RoutingSwitches switches;
  switches.experts_per_token = words.take<int64_t>();
  switches.skip = words.take<int64_t>();
  switches.drop_shared = words.take<bool>();
  for (auto left = words.take<int64_t>(); left > 0; --left) {
    ExpertMask mask;
    mask.layer = words.take<int64_t>();
    mask.experts = words.take_all<int64_t>();
    switches.masked.push_back(std::move(mask));
  }
  for (auto left = words.take<int64_t>(); left > 0; --left) {
    ExpertBoost boost;
    boost.layer = words.take<int64_t>();
    boost.expert = words.take<int64_t>();
    boost.value = words.take<double>();
    switches.boosted.push_back(boost);
  }
  switches.without_shared = words.take_all<int64_t>();
  return switches;
}

}  // namespace moe
