#include "study/rows.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "study/differences.h"

namespace moe {
namespace {

using Keys = std::map<std::string, std::string>;  // values as TOML, by dotted path

/// The keys of a result's settings, which is TOML with one key a line (Settings::to_toml()).
Keys keys_of(const std::string& settings) {
  Keys keys;
  std::istringstream text(settings);
  std::string section;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with('[') && line.ends_with(']')) section = line.substr(1, line.size() - 2) + ".";
    const size_t equals = line.find(" = ");
    if (equals != std::string::npos) keys[section + line.substr(0, equals)] = line.substr(equals + 3);
  }
  return keys;
}

/// The keys that tell the results apart, without the seed, which is a column of its own.
std::vector<std::string> differing(const std::vector<Keys>& all) {
  std::map<std::string, std::set<std::string>> values;
  for (const Keys& keys : all) {
    for (const auto& [key, value] : keys) values[key];
  }
  for (const Keys& keys : all) {
    for (auto& [key, seen] : values) {
      const auto found = keys.find(key);
      seen.insert(found == keys.end() ? "" : found->second);
    }
  }
  std::vector<std::string> names;
  for (const auto& [key, seen] : values) {
    if (seen.size() > 1 && key != "train.seed") names.push_back(key);
  }
  return names;
}

/// A value of a settings file: a number or a boolean where it is one.
Row value_of(const std::string& toml) {
  Row parsed = Row::parse(toml, nullptr, false);
  return parsed.is_discarded() ? Row(toml) : parsed;
}

Row number(double value) { return std::isfinite(value) ? Row(value) : Row(nullptr); }

const JobResult* baseline_of(const Study& study, const std::vector<JobResult>& results, const JobResult& result) {
  if (result.system == study.baseline) return nullptr;
  const auto found = std::find_if(results.begin(), results.end(), [&](const JobResult& other) {
    return other.system == study.baseline && other.seed == result.seed && other.diverged == 0;
  });
  return found == results.end() ? nullptr : &*found;
}

/// The losses of one domain: null where nothing is known of it.
struct Part {
  std::string domain;
  Row loss = nullptr, bits_per_byte = nullptr, documents = nullptr, tokens = nullptr, bytes = nullptr,
      difference = nullptr, difference_error = nullptr;
};

/// A part for each domain, and one for all.
std::vector<Part> parts_of(const JobResult& result, const JobResult* baseline) {
  std::vector<Part> parts;
  const std::vector<DocumentLoss>& documents = result.documents.documents;
  for (size_t domain = 0; domain <= result.documents.domains.size(); ++domain) {
    const bool all = domain == result.documents.domains.size();
    std::vector<DocumentLoss> own;
    std::copy_if(documents.begin(), documents.end(), std::back_inserter(own),
                 [&](const DocumentLoss& one) { return all || one.domain == static_cast<int32_t>(domain); });
    Part part{.domain = all ? "all" : result.documents.domains[domain]};
    if (!own.empty()) {
      int64_t tokens = 0, bytes = 0;
      double nats = 0;
      for (const DocumentLoss& one : own) tokens += one.tokens, bytes += one.bytes, nats += one.nats;
      part.documents = own.size();
      part.tokens = tokens;
      part.bytes = bytes;
      part.loss = number(nats / static_cast<double>(tokens));
      part.bits_per_byte = number(nats / std::log(2.0) / static_cast<double>(bytes));
    }
    parts.push_back(std::move(part));
  }
  if (result.diverged == 0) {
    parts.back().loss = result.loss;
    parts.back().bits_per_byte = result.bits_per_byte;
  }
  if (baseline == nullptr || result.diverged > 0) return parts;
  parts.back().difference = result.bits_per_byte - baseline->bits_per_byte;
  std::optional<Comparison> comparison;
  try {
    comparison = document_difference(*baseline, result);
  } catch (const Error&) {  // other documents, which the table tells
  }
  if (!comparison) return parts;
  comparison->domains.emplace_back("all", comparison->all);
  for (const auto& [name, difference] : comparison->domains) {
    for (Part& part : parts) {
      if (part.domain != name) continue;
      part.difference = number(difference.difference);
      part.difference_error = number(difference.error);
    }
  }
  return parts;
}

}  // namespace

std::vector<Row> study_rows(const Study& study, const std::vector<JobResult>& results) {
  std::vector<Keys> keys;
  for (const JobResult& result : results) keys.push_back(keys_of(result.settings));
  const std::vector<std::string> shown = differing(keys);
  std::vector<Row> rows;
  for (size_t i = 0; i < results.size(); ++i) {
    const JobResult& result = results[i];
    for (Part& part : parts_of(result, baseline_of(study, results, result))) {
      Row row = {{"system", result.system},
                 {"seed", result.seed},
                 {"domain", part.domain},
                 {"loss", part.loss},
                 {"bits_per_byte", part.bits_per_byte},
                 {"difference", part.difference},
                 {"difference_error", part.difference_error},
                 {"documents", part.documents},
                 {"tokens", part.tokens},
                 {"bytes", part.bytes},
                 {"diverged", result.diverged > 0 ? Row(result.diverged) : Row(nullptr)},
                 {"parameters", result.total_params},
                 {"activated", result.activated_params},
                 {"steps", result.steps},
                 {"flops", result.flops(result.steps)},
                 {"seconds", number(result.seconds)},
                 {"tokens_per_second", number(result.tokens_per_second)},
                 {"memory_bytes", result.memory_bytes},
                 {"max_over_mean_load", number(result.max_over_mean_load)},
                 {"dropped", number(result.dropped)}};
      for (const std::string& key : shown) {
        const auto found = keys[i].find(key);
        row[key] = found == keys[i].end() ? Row(nullptr) : value_of(found->second);
      }
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

std::string rows_as_json(const std::vector<Row>& rows) { return json_text(Row(rows), 1) + "\n"; }

}  // namespace moe
