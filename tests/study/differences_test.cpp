// Differences to the baseline in pairs of seeds or documents, and the rows for other programs.

#include "study/differences.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "study/rows.h"
#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// Two domains of three documents each; `nats` of all six.
DocumentLosses documents_of(const std::vector<double>& nats) {
  DocumentLosses losses{.domains = {"books", "code, old"}, .documents = {}};
  for (size_t i = 0; i < nats.size(); ++i) {
    losses.documents.push_back(
        {.domain = i < 3 ? 0 : 1, .index = static_cast<int64_t>(i), .tokens = 10, .bytes = 40, .nats = nats[i]});
  }
  return losses;
}

class Differences : public testing::Test {
 protected:
  Study study;
  std::vector<JobResult> results;

  Differences() {
    study.title = "A study";
    study.systems = {"base", "good", "same"};
    study.baseline = "base";
  }
  void add(const std::string& system, int64_t seed, double loss, const std::vector<double>& nats = {}) {
    JobResult& result = results.emplace_back(result_of(system, seed, loss));
    if (!nats.empty()) result.documents = documents_of(nats);
  }
  std::vector<SystemDifference> found() { return differences(study, summarize(study, results)); }
  std::string table() { return difference_table(study, summarize(study, results)); }
};

TEST_F(Differences, ArePairedOverSeedsWhereThereAreSeveral) {
  for (const int64_t seed : {1, 2, 3}) {
    const auto far = static_cast<double>(seed);  // the seeds differ by much more than the systems
    add("base", seed, far);
    add("good", seed, far - 0.2 - 0.1 * (far - 2));
  }
  const auto [good] = std::array{found().at(0)};
  EXPECT_EQ(good.system, "good");
  EXPECT_EQ(good.pairs, Pairs::seeds);
  EXPECT_NEAR(good.loss.difference, -0.2, 1e-12);
  EXPECT_NEAR(good.loss.error, 4.303 * 0.1 / std::sqrt(3), 1e-12);
  EXPECT_NEAR(good.bits.difference, -0.1, 1e-12) << "result_of has half the loss";
  EXPECT_THAT(table(), HasSubstr("| good | 3 seeds | -0.2000 ± 0.2484 | -0.1000 ± 0.1242 |\n"));
}

TEST_F(Differences, UseTheSeedsThatBothHave) {
  add("base", 1, 3);
  add("base", 2, 4);
  add("good", 2, 3.5);
  add("good", 3, 1);
  add("same", 1, 3);
  add("same", 2, 4);
  EXPECT_EQ(found()[0].pairs, Pairs::none) << "one seed in common, whose documents are not known";
  EXPECT_EQ(found()[1].pairs, Pairs::seeds);
  EXPECT_EQ(found()[1].loss.error, 0);
}

TEST_F(Differences, ArePairedOverDocumentsWithOneSeed) {
  add("base", 1, 2, {20, 10, 30, 20, 10, 30});
  add("good", 1, 1.8, {18, 9, 27, 18, 8, 28});
  const SystemDifference good = found().at(0);
  EXPECT_EQ(good.pairs, Pairs::documents);
  EXPECT_NEAR(good.loss.difference, -0.2, 1e-12);
  ASSERT_EQ(good.domains.size(), 2u);
  EXPECT_NEAR(good.domains[0].second.difference, -0.2 / 4 / std::log(2), 1e-12);
  const Difference expected =
      paired_difference(results[0].documents.documents, results[1].documents.documents, LossUnit::nats_per_token);
  EXPECT_EQ(good.loss.error, expected.error);
  EXPECT_THAT(table(), HasSubstr("| system | pairs | loss | bits per byte | books | code, old |\n"));
  EXPECT_THAT(table(), HasSubstr("| good | 6 documents | -0.2000 ± "));
}

TEST_F(Differences, ByDomainAreOverSeedsToo) {
  for (const int64_t seed : {1, 2}) {
    const auto more = static_cast<double>(seed);
    add("base", seed, 2, {20, 10, 30, 20, 10, 30});
    add("good", seed, 2, {20 - more, 10, 30, 20, 10, 30});
  }
  const SystemDifference good = found().at(0);
  ASSERT_EQ(good.domains.size(), 2u);
  const double unit = 120 * std::log(2);
  EXPECT_NEAR(good.domains[0].second.difference, -1.5 / unit, 1e-12);
  EXPECT_NEAR(good.domains[0].second.error, 12.706 * 0.5 / unit, 1e-12);
  EXPECT_EQ(good.domains[1].second.difference, 0);
}

TEST_F(Differences, OfOldResultsWithOneSeedAreNoneAndSaidToBe) {
  add("base", 1, 2);
  add("good", 1, 1);
  add("same", 1, 1);
  EXPECT_EQ(table(),
            "\nWithout a paired difference to base, because of a result without losses of documents, which older "
            "versions did not keep: good, same\n");
}

TEST_F(Differences, OfOtherDocumentsAreNoneAndSaidToBe) {
  add("base", 1, 2, {20, 10, 30, 20, 10, 30});
  add("good", 1, 2, {20, 10, 30, 20});
  EXPECT_THAT(table(), HasSubstr("good\n"));
  EXPECT_THAT(table(), HasSubstr("base has the losses of 6 documents and good those of 4"));
}

TEST_F(Differences, OfOtherTokensAreInBitsPerByteAlone) {
  add("base", 1, 2, {20, 10, 30, 20, 10, 30});
  add("good", 1, 2, {20, 10, 30, 20, 10, 30});
  for (DocumentLoss& document : results[1].documents.documents) document.tokens = 8;
  EXPECT_THAT(table(), HasSubstr("| good | 6 documents | - | +0.0000 ± 0.0000 |"));
}

TEST_F(Differences, WithoutABaselineAreNone) {
  add("good", 1, 2);
  EXPECT_EQ(table(), "");
  study.baseline = "good";
  EXPECT_EQ(table(), "") << "a system is not compared with itself";
}

TEST_F(Differences, OfManyDomainsLeaveThemOutOfTheTable) {
  add("base", 1, 2, {20, 10, 30, 20, 10, 30});
  add("good", 1, 2, {20, 10, 30, 20, 10, 30});
  for (JobResult& result : results) {
    result.documents.domains = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
    while (result.documents.documents.size() < 9) result.documents.documents.push_back(result.documents.documents[0]);
    for (size_t i = 0; i < 9; ++i) result.documents.documents[i].domain = static_cast<int32_t>(i);
  }
  EXPECT_THAT(table(), HasSubstr("| system | pairs | loss | bits per byte |\n"));
}

TEST_F(Differences, RowsAreOneForEachSystemSeedAndDomain) {
  add("base", 1, 2, {20, 10, 30, 20, 10, 30});
  add("good", 1, 1.8, {18, 9, 27, 18, 8, 28});
  add("same", 2, 2.5);
  results[0].settings = "[model]\nn_routed_experts = 8\nmethod = \"a, b\"\n[train]\nseed = 1\n";
  results[1].settings = "[model]\nn_routed_experts = 16\nmethod = \"a, b\"\n[train]\nseed = 1\n";
  results[2].settings = "[model]\nn_routed_experts = 16\nmethod = \"c\"\n[train]\nseed = 2\n";
  JobResult& diverged = results.emplace_back(result_of("same", 3, 9));
  diverged.diverged = 5;
  const std::vector<Row> rows = study_rows(study, results);
  std::vector<std::string> names;
  for (const Row& row : rows)
    names.push_back(row["system"].get<std::string>() + ":" + row["domain"].get<std::string>());
  EXPECT_THAT(names, ElementsAre("base:books", "base:code, old", "base:all", "good:books", "good:code, old", "good:all",
                                 "same:all", "same:all"));
  EXPECT_EQ(rows[0]["documents"], 3);
  EXPECT_NEAR(rows[0]["loss"].get<double>(), 2.0, 1e-12);
  EXPECT_TRUE(rows[0]["difference"].is_null()) << "the baseline";
  EXPECT_NEAR(rows[3]["difference"].get<double>(), -0.2 / 4 / std::log(2), 1e-12);
  EXPECT_EQ(rows[5]["model.n_routed_experts"], 16);
  EXPECT_EQ(rows[5]["model.method"], "a, b");
  EXPECT_FALSE(rows[5].contains("train.seed"));
  EXPECT_TRUE(rows[6]["difference"].is_null()) << "the baseline has no such seed";
  EXPECT_EQ(rows[6]["loss"], 2.5);
  EXPECT_TRUE(rows[6]["tokens"].is_null());
  EXPECT_EQ(rows[7]["diverged"], 5);
  EXPECT_TRUE(rows[7]["loss"].is_null());
  const std::string csv = rows_as_csv(rows);
  EXPECT_THAT(csv, HasSubstr("system,seed,domain,loss,"));
  EXPECT_THAT(csv, HasSubstr("\nbase,1,\"code, old\","));
  EXPECT_THAT(csv, Not(HasSubstr("null")));
}

}  // namespace
}  // namespace moe::test
