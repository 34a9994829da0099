#include "cli/data_inspect.h"

#include <algorithm>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/output.h"
#include "base/units.h"
#include "cli/number_option.h"
#include "data/batch_source.h"
#include "data/shards.h"
#include "eval/token_text.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Shows a row as training packs it: each document (or piece of one) with its tokens and text. Rows are
counted from 0 over the whole run: row N belongs to step N / rows_per_step. Rows up to the dataset's number
of rows belong to the first epoch. --sequence-length and --seed are the run's data.sequence_length and
train.seed. --tokens adds a line for each token, with its target; "-" means no target.

Example:
  moe data inspect runs/data/train --row 3 --sequence-length 512)";

struct InspectFlags {
  std::string dataset;
  int64_t row = 0;
  int64_t sequence_length = 2048;
  uint64_t seed = 1;
  bool tokens = false;
};

std::string decoded(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += readable_token(tokenizer, id);
  return text;
}

void print_tokens(const Tokenizer& tokenizer, const Batch& batch, size_t begin, size_t length) {
  print_output("{:>10} {:>8} {:<24} {:>8}  {}\n", "position", "id", "token", "target", "its text");
  for (size_t i = begin; i < begin + length; ++i) {
    const int32_t target = batch.targets[i];
    print_output("{:>10} {:>8} {:<24} {:>8}  {}\n", batch.positions[i], batch.tokens[i],
                 readable_token(tokenizer, batch.tokens[i]), target < 0 ? "-" : std::to_string(target),
                 target < 0 ? "" : readable_token(tokenizer, target));
  }
}

void inspect(const InspectFlags& flags) {
  const Dataset dataset(flags.dataset);
  const Tokenizer tokenizer = Tokenizer::load(flags.dataset);
  const BatchSource source(dataset, {.sequence_length = flags.sequence_length, .rows_per_step = 1, .seed = flags.seed});
  const Batch batch = source.rows(flags.row, 0, 1);
  const auto pieces = source.row_of(flags.row, 0);
  print_output("row {}: row {} of {} in epoch {}; {}, {}, {}, {} padding\n", flags.row,
               flags.row % source.rows_per_epoch(), source.rows_per_epoch(), flags.row / source.rows_per_epoch(),
               counted(pieces.size(), "document"), counted(batch.num_tokens, "token"),
               counted(batch.num_targets, "target"), flags.sequence_length - batch.num_tokens);
  size_t at = 0;
  for (const Piece& piece : pieces) {
    const auto length = static_cast<size_t>(piece.length);
    const auto targets = std::count_if(batch.targets.begin() + static_cast<int64_t>(at),
                                       batch.targets.begin() + static_cast<int64_t>(at + length),
                                       [](int32_t target) { return target >= 0; });
    print_output("\ndocument {} ({}), tokens {} to {} of {}, {}\n", piece.document,
                 dataset.domain_names()[static_cast<size_t>(dataset.domain(piece.document))], piece.begin,
                 piece.begin + piece.length - 1, dataset.length(piece.document), counted(targets, "target"));
    if (flags.tokens) {
      print_tokens(tokenizer, batch, at, length);
    } else {
      print_output("{}\n", decoded(tokenizer, std::span(batch.tokens).subspan(at, length)));
    }
    at += length;
  }
}

}  // namespace

void add_data_inspect_command(CLI::App& data) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = data.add_subcommand("inspect", "Shows a packed row of a dataset: documents, targets and text");
  command->footer(kHelp);
  command->add_option("DIR", flags->dataset, "dataset that `moe data` made")->required()->type_name("");
  add_number(*command, "--row", flags->row, {0, int64_t{1} << 50}, "number of the row in the run");
  add_number(*command, "--sequence-length", flags->sequence_length, {1, 1 << 24}, "tokens of a row");
  add_seed(*command, "--seed", flags->seed, "seed of the order of rows");
  command->add_flag("--tokens", flags->tokens, "a line for each token, with its target");
  command->callback([flags] { inspect(*flags); });
}

}  // namespace moe
