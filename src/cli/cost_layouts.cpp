#include "cli/cost_layouts.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/output.h"
#include "base/units.h"
#include "cli/number_option.h"
#include "nn/head.h"
#include "train/amounts.h"

namespace moe {
namespace {

constexpr int64_t kMostRanks = 4096, kMostRows = int64_t{1} << 40;
constexpr int64_t kRowsOfARank = 32;
constexpr double kGiga = 1e9, kTera = 1e12;
/// In the list of layouts that do not fit.
constexpr size_t kShownTooLarge = 3;

/// The memory that a card is sold with, which is less than it has; drivers, workspaces and NCCL take the rest.
/// Products: an H200 reached 800 TFLOP/s, and an H100 has 0.87 of its speed in a whole step (docs/performance.md).
/// Link: the all-gather of 268 MB by NCCL on four H200 of one machine.
constexpr struct {
  const char* name;
  double memory_gb, tflops, read_gb_per_s, link_gb_per_s;
} kCards[] = {{"h100", 80, 700, 3000, 320}, {"h200", 141, 800, 4200, 320}};

Card parse_card(const LayoutFlags& flags) {
  Card card;
  card.network = kGiga * flags.network_gb_per_s;
  card.of_machine = flags.machine_ranks;
  const auto set = [&](const std::string& name, double memory, double product, double read, double link) {
    card.name = name;
    card.memory = kGiga * memory;
    card.product = kTera * product;
    card.read = kGiga * read;
    card.link = kGiga * link;
    return card;
  };
  for (const auto& known : kCards) {
    if (flags.card == known.name) {
      return set(known.name, known.memory_gb, known.tflops, known.read_gb_per_s, known.link_gb_per_s);
    }
  }
  const size_t equals = flags.card.find('=');
  std::vector<double> numbers;
  bool good = equals != std::string::npos && equals > 0;
  for (size_t begin = equals + 1; good;) {
    const size_t end = std::min(flags.card.find(',', begin), flags.card.size());
    double value = 0;
    const char* const stop = flags.card.data() + end;
    const auto [rest, error] = std::from_chars(flags.card.data() + begin, stop, value);
    good = error == std::errc() && rest == stop && value > 0 && value <= 1e9;
    numbers.push_back(value);
    if (end == flags.card.size()) break;
    begin = end + 1;
  }
  if (!good || numbers.size() != 4) {
    fail_usage(
        "--card {:?}: expected h100, h200 or NAME=GB,TFLOPS,READ,LINK, such as a100=40,250,1500,230: memory in 10^9 "
        "bytes, speed of a large product, GB/s of reading memory, GB/s to a card of the same machine",
        flags.card);
  }
  return set(flags.card.substr(0, equals), numbers[0], numbers[1], numbers[2], numbers[3]);
}

Json wire_json(const RankWire& wire) {
  return {{"gradients", wire.gradients}, {"weights", wire.weights}, {"tokens", wire.tokens},
          {"outputs", wire.outputs},     {"stages", wire.stages},   {"all", wire.total()}};
}

Json rank_json(const LayoutPlan& plan, size_t rank) {
  const RankMemory& memory = plan.memory[rank];
  return {{"rank", rank},
          {"stage", position_of(plan.layout, static_cast<int64_t>(rank)).stage},
          {"parameters", memory.state.parameters},
          {"weights_bytes", memory.state.weights},
          {"gradients_bytes", memory.state.gradients},
          {"optimizer_bytes", memory.state.optimizer},
          {"activations_bytes", memory.activations},
          {"activations_even_bytes", memory.even},
          {"buffers_bytes", memory.buffers},
          {"batch_bytes", memory.batch},
          {"total_bytes", memory.total()},
          {"sent_bytes", wire_json(plan.wire[rank])}};
}

Json plan_json(const LayoutPlan& plan, bool with_ranks) {
  const StepSeconds& time = plan.time;
  double sent = 0;
  for (const RankWire& wire : plan.wire) sent = std::max(sent, wire.total());
  Json json{{"layout", {{"dp", plan.layout.data}, {"ep", plan.layout.expert}, {"pp", plan.layout.pipeline}}},
            {"text", text_of(plan.layout)},
            {"rows", plan.rows},
            {"recompute", plan.recompute},
            {"microbatches", plan.microbatches},
            {"fits", plan.fits},
            {"most_bytes", plan.largest().total()},
            {"least_bytes", plan.smallest().total()},
            {"most_sent_bytes", sent},
            {"step_s", time.total()},
            {"compute_s", time.compute},
            {"communication_s", time.communication},
            {"bubble_s", time.bubble},
            {"update_s", time.update},
            {"communication_share", time.communication / time.total()},
            {"bubble_share", time.bubble / time.total()},
            {"tokens_per_s", plan.tokens_per_second}};
  if (!with_ranks) return json;
  json["ranks"] = Json::array();
  for (size_t rank = 0; rank < plan.memory.size(); ++rank) json["ranks"].push_back(rank_json(plan, rank));
  return json;
}

std::string amount(const Json& bytes) {
  const double value = bytes.get<double>();
  return value == 0 ? "-" : value < 9e18 ? bytes_text(static_cast<int64_t>(value)) : fmt::format("{:.2g} bytes", value);
}

void print_plan_line(const Json& plan) {
  const auto share = [&](const char* key) { return fmt::format("{:.1f}%", 100 * plan.at(key).get<double>()); };
  print_output("  {:<18}{:>5}  {:<10}{:>12}{:>13}{:>10.4g} s{:>8}{:>8}{:>11.0f}\n", plan.at("text").get<std::string>(),
               plan.at("rows").get<int64_t>(), plan.at("recompute").get<bool>() ? "recompute" : "",
               amount(plan.at("most_bytes")), amount(plan.at("most_sent_bytes")), plan.at("step_s").get<double>(),
               share("communication_share"), share("bubble_share"), plan.at("tokens_per_s").get<double>());
}

/// The largest rank of each stage, and the smallest of all.
std::vector<Json> shown_ranks(const Json& ranks) {
  std::vector<Json> shown;
  const auto total = [](const Json& rank) { return rank.at("total_bytes").get<double>(); };
  Json smallest = ranks.front();
  for (const Json& rank : ranks) {
    if (total(rank) < total(smallest)) smallest = rank;
    if (shown.empty() || shown.back().at("stage") != rank.at("stage")) {
      shown.push_back(rank);
    } else if (total(rank) > total(shown.back())) {
      shown.back() = rank;
    }
  }
  const bool known = std::any_of(shown.begin(), shown.end(), [&](const Json& one) { return one == smallest; });
  if (!known) shown.push_back(smallest);
  return shown;
}

void print_ranks(const Json& plan) {
  print_output("{}: the largest rank of each stage, and the smallest of all\n", plan.at("text").get<std::string>());
  print_output("  {:>4}{:>6}{:>12}{:>13}{:>13}{:>13}{:>13}{:>13}{:>13}{:>13}\n", "rank", "stage", "parameters",
               "weights", "gradients", "optimizer", "activations", "buffers", "batch", "all");
  const std::vector<Json> shown = shown_ranks(plan.at("ranks"));
  for (const Json& rank : shown) {
    print_output("  {:>4}{:>6}{:>12}{:>13}{:>13}{:>13}{:>13}{:>13}{:>13}{:>13}\n", rank.at("rank").get<int64_t>(),
                 rank.at("stage").get<int64_t>(), count_text(static_cast<int64_t>(rank.at("parameters").get<double>())),
                 amount(rank.at("weights_bytes")), amount(rank.at("gradients_bytes")),
                 amount(rank.at("optimizer_bytes")), amount(rank.at("activations_bytes")),
                 amount(rank.at("buffers_bytes")), amount(rank.at("batch_bytes")), amount(rank.at("total_bytes")));
  }
  print_output("what each of them sends in a step\n  {:>4}{:>12}{:>13}{:>13}{:>13}{:>13}{:>13}\n", "rank", "gradients",
               "weights", "tokens", "outputs", "stages", "all");
  for (const Json& rank : shown) {
    const Json& sent = rank.at("sent_bytes");
    print_output("  {:>4}{:>12}{:>13}{:>13}{:>13}{:>13}{:>13}\n", rank.at("rank").get<int64_t>(),
                 amount(sent.at("gradients")), amount(sent.at("weights")), amount(sent.at("tokens")),
                 amount(sent.at("outputs")), amount(sent.at("stages")), amount(sent.at("all")));
  }
}

}  // namespace

void add_layout_options(CLI::App& command, LayoutFlags& flags) {
  CLI::Option* const ranks = add_number(
      command, "--ranks", flags.ranks, {1, kMostRanks},
      "plan training on so many cards: memory of each, bytes on the wire, time (default: no such plan)", false);
  const auto with_ranks = [&](CLI::Option* option) { option->needs(ranks); };
  with_ranks(
      command
          .add_option("--layout", flags.layout,
                      "data, expert and pipeline parallel, such as dp=2,ep=4,pp=1 (default: all are planned, and "
                      "one is proposed)")
          ->type_name("LAYOUT"));
  with_ranks(
      command
          .add_option("--card", flags.card,
                      "h100, h200 or NAME=GB,TFLOPS,READ,LINK: memory in 10^9 bytes, speed of a large product in "
                      "10^12 FLOP/s, GB/s of its memory, GB/s to a card of the same machine")
          ->type_name("CARD")
          ->capture_default_str());
  with_ranks(add_number(command, "--network-gb-per-s", flags.network_gb_per_s, {.least = 0, .most = 1e9, .above = true},
                        "of one card to another machine, in 10^9 bytes/s"));
  with_ranks(add_number(command, "--machine-ranks", flags.machine_ranks, {1, kMostRanks}, "cards of one machine"));
  with_ranks(add_number(command, "--zero", flags.zero, {1, 3},
                        "what is divided among ranks that would hold the same: 1 the optimiser's state, 2 gradients "
                        "too, 3 weights too"));
  with_ranks(add_number(command, "--step-rows", flags.step_rows, {0, kMostRows},
                        "sequences of a whole step; 0: the run file's, or 32 for each rank"));
}

Json layouts_json(const LayoutFlags& flags, const ModelConfig& config, const StepConfig& step, int64_t rows_per_step,
                  LayoutChoices choices) {
  if (flags.ranks == 0) return {};
  LayoutRun run{.model = config, .step = step, .card = parse_card(flags)};
  run.step.logits_per_chunk = gpu_logits_per_chunk(config.vocab_size);
  run.sharding = static_cast<Sharding>(flags.zero);
  run.rows_per_step = flags.step_rows > 0 ? flags.step_rows
                      : rows_per_step > 0 ? rows_per_step
                                          : kRowsOfARank * flags.ranks;
  if (!flags.layout.empty()) choices.layout = parse_layout(flags.layout);
  LayoutPlanner planner(run);
  const std::vector<LayoutPlan> plans = plan_layouts(planner, flags.ranks, choices);
  Json json{{"ranks", flags.ranks},
            {"card",
             {{"name", run.card.name},
              {"memory_bytes", run.card.memory},
              {"product_tflops", run.card.product / kTera},
              {"read_gb_per_s", run.card.read / kGiga},
              {"link_gb_per_s", run.card.link / kGiga},
              {"network_gb_per_s", run.card.network / kGiga},
              {"of_machine", run.card.of_machine}}},
            {"zero", flags.zero},
            {"rows_per_step", run.rows_per_step},
            {"sequence_length", run.step.sequence_length},
            {"given", choices.layout.has_value()},
            {"reason", reason(run, plans)},
            {"plans", Json::array()}};
  for (size_t i = 0; i < plans.size(); ++i) json["plans"].push_back(plan_json(plans[i], i == 0));
  return json;
}

void print_layouts(const Json& layouts) {
  if (layouts.is_null()) return;
  const Json& card = layouts.at("card");
  const auto number = [&](const char* key) { return card.at(key).get<double>(); };
  print_output(
      "\n{} of {}: {:.4g} GB, {:.4g} TFLOP/s; {:.4g} GB/s in a machine of {}, {:.4g} GB/s to others; ZeRO-{}\n"
      "a step of {} of {}; memory and bytes sent are those of the largest rank\n",
      counted(layouts.at("ranks").get<int64_t>(), "rank"), card.at("name").get<std::string>(),
      number("memory_bytes") / kGiga, number("product_tflops"), number("link_gb_per_s"),
      card.at("of_machine").get<int64_t>(), number("network_gb_per_s"), layouts.at("zero").get<int64_t>(),
      counted(layouts.at("rows_per_step").get<int64_t>(), "row"),
      counted(layouts.at("sequence_length").get<int64_t>(), "token"));
  print_output("  {:<18}{:>5}  {:<10}{:>12}{:>13}{:>12}{:>8}{:>8}{:>11}\n", "layout", "rows", "", "memory", "sent",
               "step", "comm.", "bubble", "tokens/s");
  size_t too_large = 0;
  for (const Json& plan : layouts.at("plans")) {
    if (!plan.at("fits").get<bool>()) {
      if (too_large++ == 0) print_output("does not fit\n");
      if (too_large > kShownTooLarge) continue;
    }
    print_plan_line(plan);
  }
  if (too_large > kShownTooLarge) print_output("  and {} that need more\n", too_large - kShownTooLarge);
  if (!layouts.at("given").get<bool>()) print_output("{}\n", layouts.at("reason").get<std::string>());
  print_ranks(layouts.at("plans").front());
}

}  // namespace moe
