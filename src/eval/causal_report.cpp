#include "eval/causal_report.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/units.h"

namespace moe {
namespace {

constexpr size_t kMostColumns = 6;  // domains that a line of the table has room for

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json domain_json(const CausalDomain& domain) {
  return {{"documents", domain.documents},
          {"tokens", domain.tokens},
          {"targets", domain.targets},
          {"loss", number(domain.loss)}};
}

/// The difference of a domain; of all text if its name is empty.
const Difference& of_domain(const Comparison& change, const std::string& name) {
  if (name.empty()) return change.all;
  const auto found = std::find_if(change.domains.begin(), change.domains.end(),
                                  [&](const auto& domain) { return domain.first == name; });
  MOE_CHECK(found != change.domains.end());
  return found->second;
}

Row cell(double value) { return std::isfinite(value) ? Row(value) : Row(nullptr); }

/// `domain`: an index into the table's domains, -1 for all text. `expert`: null for the shared ones.
Row row_of(const CausalTable& table, int64_t layer, const CausalExpert* expert, const Comparison& change,
           int64_t domain) {
  const CausalDomain& part = domain < 0 ? table.all : table.domains[static_cast<size_t>(domain)];
  const std::string name = domain < 0 ? "" : part.name;
  const Difference& difference = of_domain(change, name);
  Row row = {{"layer", layer},
             {"expert", expert == nullptr ? Row("shared") : Row(expert->expert)},
             {"domain", domain < 0 ? "all" : part.name},
             {"documents", difference.pairs},
             {"tokens", nullptr},
             {"load", nullptr},
             {"gate", nullptr},
             {"loss", cell(difference.a)},
             {"masked_loss", cell(difference.b)},
             {"change", cell(difference.difference)},
             {"change_error", cell(difference.error)}};
  if (expert == nullptr) return row;
  const int64_t tokens = domain < 0 ? expert->tokens : expert->domain_tokens[static_cast<size_t>(domain)];
  row["tokens"] = tokens;
  row["load"] = cell(static_cast<double>(tokens) / static_cast<double>(part.tokens));
  if (domain < 0) row["gate"] = cell(expert->gate);
  return row;
}

std::string line_of(const CausalTable& table, const std::string& name, const CausalExpert* expert,
                    const Comparison& change) {
  std::string line = fmt::format("{:>6}", name);
  line += expert == nullptr ? fmt::format(" {:>7} {:>6}", "", "") : fmt::format(" {:>6.2f}%", 100 * expert->load);
  if (expert != nullptr)
    line += std::isnan(expert->gate) ? fmt::format(" {:>6}", "-") : fmt::format(" {:>6.3f}", expert->gate);
  line += fmt::format(" {:>18}", difference_text(change.all));
  if (table.domains.size() > 1 && table.domains.size() <= kMostColumns) {
    for (const CausalDomain& domain : table.domains) {
      line += fmt::format(" {:>18}", difference_text(of_domain(change, domain.name)));
    }
  }
  return line + "\n";
}

std::string list_of(const std::vector<int64_t>& experts) {
  return experts.empty() ? "none" : fmt::format("{}", fmt::join(experts, ", "));
}

std::string layer_text(const CausalTable& table, const CausalTableLayer& layer) {
  std::string text = fmt::format("\nlayer {}: change of the loss without an expert, nats per token\n", layer.layer);
  text += fmt::format("{:>6} {:>7} {:>6} {:>18}", "expert", "load", "gate", "all text");
  if (table.domains.size() > 1 && table.domains.size() <= kMostColumns) {
    for (const CausalDomain& domain : table.domains) text += fmt::format(" {:>18}", domain.name);
  }
  text += "\n";
  if (layer.unshared) text += line_of(table, "shared", nullptr, *layer.unshared);
  for (const CausalExpert& expert : layer.experts) {
    text += line_of(table, std::to_string(expert.expert), &expert, expert.change);
  }
  text += std::isnan(layer.rank_correlation)
              ? std::string("rank correlation of load and change: none, one of them is the same for all experts\n")
              : fmt::format("rank correlation of load and change: {:.2f}\n", layer.rank_correlation);
  text += fmt::format("busy, but matter little (a third with the largest load, a third with the smallest change): {}\n",
                      list_of(layer.busy));
  text += fmt::format("quiet, but matter (a third with the smallest load, a third with the largest change): {}\n",
                      list_of(layer.quiet));
  return text;
}

}  // namespace

Json causal_json(const CausalTable& table) {
  Json domains = Json::object(), layers = Json::array();
  for (const CausalDomain& domain : table.domains) domains[domain.name] = domain_json(domain);
  for (const CausalTableLayer& layer : table.layers) {
    Json experts = Json::array();
    for (const CausalExpert& expert : layer.experts) {
      Json tokens = Json::object();
      for (size_t i = 0; i < table.domains.size(); ++i) tokens[table.domains[i].name] = expert.domain_tokens[i];
      experts.push_back({{"expert", expert.expert},
                         {"tokens", expert.tokens},
                         {"load", expert.load},
                         {"gate", number(expert.gate)},
                         {"domain_tokens", std::move(tokens)},
                         {"change", comparison_json(expert.change)}});
    }
    layers.push_back({{"layer", layer.layer},
                      {"rank_correlation", number(layer.rank_correlation)},
                      {"busy", layer.busy},
                      {"quiet", layer.quiet},
                      {"shared", layer.unshared ? comparison_json(*layer.unshared) : Json()},
                      {"experts", std::move(experts)}});
  }
  Json json = domain_json(table.all);
  json["domains"] = std::move(domains);
  json["layers"] = std::move(layers);
  return json;
}

std::vector<Row> causal_rows(const CausalTable& table) {
  std::vector<Row> rows;
  const auto domains = static_cast<int64_t>(table.domains.size());
  for (const CausalTableLayer& layer : table.layers) {
    for (int64_t domain = -1; layer.unshared && domain < domains; ++domain) {
      rows.push_back(row_of(table, layer.layer, nullptr, *layer.unshared, domain));
    }
    for (const CausalExpert& expert : layer.experts) {
      for (int64_t domain = -1; domain < domains; ++domain) {
        rows.push_back(row_of(table, layer.layer, &expert, expert.change, domain));
      }
    }
  }
  return rows;
}

std::string causal_text(const CausalTable& table) {
  std::string text = fmt::format("{} of {}, {} predicted: {:.4f} nats per token\n", counted(table.all.tokens, "token"),
                                 counted(table.all.documents, "document"), table.all.targets, table.all.loss);
  for (const CausalTableLayer& layer : table.layers) text += layer_text(table, layer);
  if (table.domains.size() > kMostColumns) {
    text += fmt::format("\n{} domains are too many for columns: their changes are in the files of --csv and --json\n",
                        table.domains.size());
  }
  return text;
}

}  // namespace moe
