#pragma once
/// Many prompts at once: a file with one JSON object on each line, and the lines that answer them.

#include <string>
#include <vector>

#include "base/fs.h"
#include "formats/json.h"
#include "infer/request.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// What is common to all lines.
struct LineDefaults {
  GenerationOptions options;
  std::optional<int64_t> logprobs = {};
  bool echo = false;
  bool parse_special = false;
  int64_t samples = 1;
};

/// One request of a line, and what its answer repeats.
struct LineRequest {
  Request request;
  std::string name;              ///< for errors: "prompts.jsonl, line 3"
  std::string prompt;            ///< its text
  Json id;                       ///< the line's "id"; null: none
  int64_t line = 0, sample = 0;  ///< from 0
};

/// The requests of a file, or of standard input for "-": `samples` for each line that is not empty. A line is a string,
/// the prompt, or an object with "prompt" or "ids" and, if wanted, other fields (see `moe generate --help`). Errors
/// name the line.
std::vector<LineRequest> read_prompt_lines(const std::string& path, const LineDefaults& defaults,
                                           const Tokenizer& tokenizer, const ModelConfig& config);

/// The requests of one prompt.
std::vector<LineRequest> sample_lines(const std::string& prompt, const LineDefaults& defaults,
                                      const Tokenizer& tokenizer, const ModelConfig& config);

/// Collects what one request gave. Use it on one thread at a time.
class LineAnswer {
 public:
  void add(const Event& event);
  bool ended() const { return ended_; }
  bool failed() const { return !error_.empty(); }
  /// One line of JSON, without a line end.
  std::string text(const LineRequest& line, const LineDefaults& defaults, const Tokenizer& tokenizer) const;

 private:
  std::vector<Event> tokens_;
  std::vector<double> scores_;
  std::string text_, error_;
  StopReason reason_ = StopReason::max_new_tokens;
  bool ended_ = false;
};

}  // namespace moe
