#include "cli/prompt_lines.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/utf8.h"
#include "cli/standard_input.h"
#include "formats/json_numbers.h"
#include "infer/generate.h"

namespace moe {
namespace {

using Ordered = nlohmann::ordered_json;

/// A field of a line and what it does.
struct LineField {
  const char* name;
  std::function<void(LineRequest&, const Json&)> take;
};

[[noreturn]] void fail_field(const LineRequest& line, const char* field, const Json& found, std::string_view expected) {
  fail("{}: \"{}\" is {}, expected {}", line.name, field, json_shown(found), expected);
}

template <class T>
LineField number_field(const char* name, T SamplingOptions::*member) {
  return {name, [=](LineRequest& line, const Json& value) {
            const bool right = std::is_floating_point_v<T> ? value.is_number()
                               : std::is_unsigned_v<T>     ? value.is_number_unsigned()
                                                           : is_int64(value);
            if (!right) {
              fail_field(line, name, value, std::is_floating_point_v<T> ? "a number" : "a whole number, not negative");
            }
            line.request.options.sampling.*member = value.get<T>();
          }};
}

std::string string_of(const LineRequest& line, const char* field, const Json& value) {
  if (!value.is_string()) fail_field(line, field, value, "a string");
  return value.get<std::string>();
}

std::vector<int32_t> ids_of(const LineRequest& line, const char* field, const Json& value) {
  const auto is_id = [](const Json& one) { return one.is_number_integer() && one >= 0 && one <= INT32_MAX; };
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_id)) {
    fail_field(line, field, value, "a list of token ids");
  }
  return value.get<std::vector<int32_t>>();
}

const std::vector<LineField>& option_fields() {
  static const std::vector<LineField> fields = {
      {"id", [](LineRequest& line, const Json& value) { line.id = value; }},
      {"max_new_tokens",
       [](LineRequest& line, const Json& value) {
         if (!is_int64(value)) fail_field(line, "max_new_tokens", value, "a whole number");
         line.request.options.max_new_tokens = value.get<int64_t>();
       }},
      number_field("temperature", &SamplingOptions::temperature),
      number_field("top_k", &SamplingOptions::top_k),
      number_field("top_p", &SamplingOptions::top_p),
      number_field("min_p", &SamplingOptions::min_p),
      number_field("repetition_penalty", &SamplingOptions::repetition_penalty),
      number_field("presence_penalty", &SamplingOptions::presence_penalty),
      number_field("frequency_penalty", &SamplingOptions::frequency_penalty),
      number_field("seed", &SamplingOptions::seed),
      {"stop", [](LineRequest& line, const Json& value) {
         std::vector<std::string> stop;
         for (const Json& one : value.is_array() ? value : Json::array({value})) {
           stop.push_back(string_of(line, "stop", one));
         }
         line.request.options.stop = stop;
       }}};
  return fields;
}

/// Reads everything but the fields of the prompt and of what follows it.
void take_options(LineRequest& line, const Json& object) {
  for (const auto& [name, value] : object.items()) {
    if (name == "prompt" || name == "ids" || name == "continuation") continue;
    const auto& fields = option_fields();
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const LineField& one) { return one.name == name; });
    if (field == fields.end()) {
      std::vector<std::string> names{"prompt", "ids", "continuation"};
      for (const LineField& one : fields) names.emplace_back(one.name);
      fail("{}: there is no field \"{}\"; the fields are {}", line.name, valid_utf8(name), fmt::join(names, ", "));
    }
    field->take(line, value);
  }
}

/// The number of ids that both begin with.
int64_t same_ids(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

/// Appends what is only scored. A text is encoded together with its prompt, as one that continues it, so the last token
/// of the prompt may be another one then; it is scored as well. After ids, it is encoded by itself.
void take_continuation(LineRequest& line, const std::string& text, bool after_ids, const LineDefaults& defaults,
                       const Tokenizer& tokenizer, const ModelConfig& config) {
  std::vector<int32_t>& ids = line.request.prompt.ids;
  if (text.empty()) fail("{}: \"continuation\" is empty, expected text to score", line.name);
  if (ids.empty())
    fail("{}: \"ids\" is empty, expected at least one id before the continuation, such as BOS", line.name);
  line.request.only_score = true;
  if (!after_ids) {
    std::vector<int32_t> whole = encode_prompt(tokenizer, config, line.prompt + text, defaults.parse_special);
    line.request.score_from = std::min(same_ids(ids, whole), static_cast<int64_t>(whole.size()) - 1);
    if (*line.request.score_from > 0) {
      ids = std::move(whole);
      return;
    }
  }
  line.request.score_from = static_cast<int64_t>(ids.size());
  tokenizer.encode(text, {.add_special = false, .parse_special = defaults.parse_special}, ids);
}

/// Sets the request's ids from the text, or from given ids, and the part of them that is only scored.
void take_prompt(LineRequest& line, const Json& object, const LineDefaults& defaults, const Tokenizer& tokenizer,
                 const ModelConfig& config) {
  std::vector<int32_t>& ids = line.request.prompt.ids;
  const bool has_ids = object.contains("ids");
  if (object.contains("prompt") == has_ids) {
    fail("{}: it has {}, expected one of \"prompt\" and \"ids\"", line.name,
         has_ids ? "\"prompt\" and \"ids\"" : "neither \"prompt\" nor \"ids\"");
  }
  if (has_ids) {
    ids = ids_of(line, "ids", object.at("ids"));
    const auto known = [&](int32_t id) { return id < tokenizer.id_count(); };
    if (std::all_of(ids.begin(), ids.end(), known)) line.prompt = tokenizer.decode(ids);
  } else {
    line.prompt = string_of(line, "prompt", object.at("prompt"));
    ids = encode_prompt(tokenizer, config, line.prompt, defaults.parse_special);
  }
  if (defaults.echo && defaults.logprobs && ids.size() > 1) line.request.score_from = 1;
  if (!object.contains("continuation")) return;
  take_continuation(line, string_of(line, "continuation", object.at("continuation")), has_ids, defaults, tokenizer,
                    config);
}

/// Throws what the engine would, before any work, with the name of the line.
void check_line(const LineRequest& line, const ModelConfig& config) {
  try {
    validate(line.request.options);
    check_prompt(line.request.prompt, config, line.request.only_score ? 0 : 1);
    if (!line.request.only_score) check_context(line.request.prompt, line.request.options);
  } catch (const Error& error) {
    fail("{}: {}", line.name, error.what());
  }
}

void add_line(std::vector<LineRequest>& lines, const std::string& name, const Json& object,
              const LineDefaults& defaults, const Tokenizer& tokenizer, const ModelConfig& config) {
  LineRequest line{.request = {.prompt = {}, .options = defaults.options, .logprobs = defaults.logprobs},
                   .name = name,
                   .prompt = {},
                   .id = {},
                   .line = lines.empty() ? 0 : lines.back().line + 1};
  take_options(line, object);
  take_prompt(line, object, defaults, tokenizer, config);
  check_line(line, config);
  for (int64_t sample = 0; sample < (line.request.only_score ? 1 : defaults.samples); ++sample) {
    line.sample = sample;
    line.request.prompt.sequence = static_cast<uint64_t>(line.line * defaults.samples + sample);
    if (sample == 1) line.request.score_from.reset();  // the same scores
    lines.push_back(line);
  }
}

/// A token as text: of one that is part of a character, U+FFFD.
std::string token_text(const Tokenizer& tokenizer, int32_t id) {
  if (!tokenizer.has_token(id)) return "";
  return valid_utf8(std::string(tokenizer.token_bytes(id)));
}

/// JSON has no infinity.
Ordered number(double logprob) { return std::isfinite(logprob) ? Ordered(logprob) : Ordered(); }

Ordered scored_token(const Tokenizer& tokenizer, int32_t id, double logprob) {
  return {{"id", id}, {"text", token_text(tokenizer, id)}, {"logprob", number(logprob)}};
}

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::end_of_sequence:
      return "end_of_sequence";
    case StopReason::stop_string:
      return "stop";
    case StopReason::max_new_tokens:
      return "max_new_tokens";
    case StopReason::max_positions:
      return "max_positions";
  }
  return "";
}

}  // namespace

std::vector<LineRequest> read_prompt_lines(const std::string& path, const LineDefaults& defaults,
                                           const Tokenizer& tokenizer, const ModelConfig& config) {
  const std::string text = path == "-" ? read_standard_input() : read_file(path);
  const std::string file = path == "-" ? "standard input" : path;
  std::vector<LineRequest> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string name = fmt::format("{}, line {}", file, number);
    Json parsed;
    if (const auto mistake = find_json_mistake(line, parsed)) {
      fail("{}: it is not JSON ({}), expected a string or an object on each line", name, mistake->reason);
    }
    if (parsed.is_string()) parsed = Json{{"prompt", parsed}};
    if (!parsed.is_object()) fail("{}: it is {}, expected a string or an object", name, json_kind(parsed));
    add_line(lines, name, parsed, defaults, tokenizer, config);
  }
  if (lines.empty()) fail("{} has no prompt; give one JSON object a line, such as {{\"prompt\": \"text\"}}", file);
  return lines;
}

std::vector<LineRequest> sample_lines(const std::string& prompt, const LineDefaults& defaults,
                                      const Tokenizer& tokenizer, const ModelConfig& config) {
  std::vector<LineRequest> lines;
  add_line(lines, "the prompt", {{"prompt", prompt}}, defaults, tokenizer, config);
  return lines;
}

void LineAnswer::add(const Event& event) {
  if (event.id) tokens_.push_back(event);
  scores_.insert(scores_.end(), event.scores.begin(), event.scores.end());
  text_ += event.text;
  error_ = event.error;
  reason_ = event.reason;
  ended_ = event.ended;
}

std::string LineAnswer::text(const LineRequest& line, const LineDefaults& defaults, const Tokenizer& tokenizer) const {
  const Request& request = line.request;
  const std::vector<int32_t>& prompt = request.prompt.ids;
  Ordered answer{{"line", line.line}};
  if (!line.id.is_null()) answer["id"] = line.id;
  if (defaults.samples > 1 && !request.only_score) answer["sample"] = line.sample;
  if (defaults.echo) {
    answer["prompt"] = valid_utf8(line.prompt);
    answer["prompt_ids"] = prompt;
  }
  if (failed()) {
    answer["error"] = error_;
    return json_text(answer);
  }
  const auto scored = [&] {
    Ordered list = Ordered::array();
    for (size_t i = 0; i < scores_.size(); ++i) {
      list.push_back(scored_token(tokenizer, prompt[static_cast<size_t>(*request.score_from) + i], scores_[i]));
    }
    return list;
  };
  if (request.only_score) {
    double sum = 0;
    for (const double score : scores_) sum += score;
    answer["logprob"] = number(sum);
    answer["tokens"] = scores_.size();
    answer["logprobs"] = scored();
    return json_text(answer);
  }
  if (!scores_.empty()) answer["prompt_logprobs"] = scored();
  std::vector<int32_t> ids;
  for (const Event& token : tokens_) ids.push_back(*token.id);
  answer["text"] = text_;
  answer["ids"] = ids;
  answer["reason"] = name_of(reason_);
  if (!request.logprobs) return json_text(answer);
  Ordered list = Ordered::array();
  for (const Event& token : tokens_) {
    Ordered entry = scored_token(tokenizer, *token.id, token.logprob);
    if (!token.most_likely.empty()) {
      Ordered best = Ordered::array();
      for (const TokenProbability& one : token.most_likely)
        best.push_back(scored_token(tokenizer, one.id, one.logprob));
      entry["most_likely"] = best;
    }
    list.push_back(entry);
  }
  answer["logprobs"] = list;
  return json_text(answer);
}

}  // namespace moe
