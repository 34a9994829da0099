// The search for a learning rate: where it ends, what it calls the best, and what it says.

#include "study/rate_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// A result whose four documents all have `nats` more than 20, with a little that differs.
JobResult trial(double nats, int64_t diverged = 0) {
  JobResult result = result_of("rate", 1, 2 + nats / 10);
  result.documents.domains = {"a"};
  for (int64_t i = 0; i < 4; ++i) {
    result.documents.documents.push_back(
        {.index = i, .tokens = 10, .bytes = 40, .nats = 20 + nats + 0.01 * static_cast<double>(i) * nats});
  }
  result.diverged = diverged;
  return result;
}

TEST(RateSearch, TriesRatesAroundTheGivenOne) {
  EXPECT_THAT(rates_around(8), ElementsAre(1, 2, 4, 8, 16, 32, 64, 128));
}

TEST(RateSearch, EndsAfterTwoThatAreClearlyWorse) {
  RateSearch search(1e-3);
  search.add(1e-3, trial(2));
  EXPECT_FALSE(search.done());
  search.add(2e-3, trial(1));
  search.add(4e-3, trial(3));
  EXPECT_FALSE(search.done()) << "one may be chance";
  search.add(8e-3, trial(0, 7));
  EXPECT_TRUE(search.done()) << "one is worse, one diverged";
  EXPECT_EQ(search.best(), 1u);
  EXPECT_THAT(search.as_good(), ElementsAre(2e-3));
  const std::string text = search.text(50, 500);
  EXPECT_THAT(text, HasSubstr("| 0.001 (the run's) | 2.2000 |"));
  EXPECT_THAT(text, HasSubstr("| 0.002 | 2.1000 | 1.0500 | best |"));
  EXPECT_THAT(text, HasSubstr("| 0.008 | diverged at step 7 | | |"));
  EXPECT_THAT(text, HasSubstr("Best of these: optimizer.learning_rate = 0.002.\n"));
  EXPECT_THAT(text, Not(HasSubstr("that was tried")));
  EXPECT_THAT(text, HasSubstr("had 50 steps with a complete schedule, the run has 500"));
}

TEST(RateSearch, NamesRatesThatAreNotClearlyWorse) {
  RateSearch search(1e-3);
  JobResult better = trial(1), alike = trial(1);
  alike.loss += 0.001;
  alike.documents.documents[0].nats += 0.5;
  alike.documents.documents[1].nats -= 0.4;
  search.add(1e-3, better);
  search.add(2e-3, alike);
  search.add(4e-3, trial(3));
  EXPECT_THAT(search.as_good(), ElementsAre(1e-3, 2e-3));
  EXPECT_THAT(search.text(50, 50), HasSubstr("Not clearly worse on these documents: 0.001, 0.002."));
  EXPECT_THAT(search.text(50, 50), HasSubstr("It is the lowest rate that was tried"));
  EXPECT_THAT(search.text(50, 50), Not(HasSubstr("complete schedule")));
}

TEST(RateSearch, SaysThatTheHighestMayNotBeHighEnoughOrThatAllDiverged) {
  RateSearch rising(1);
  rising.add(1, trial(3));
  rising.add(2, trial(2));
  EXPECT_THAT(rising.text(50, 50), HasSubstr("It is the highest rate that was tried"));
  RateSearch none(1);
  none.add(1, trial(3, 4));
  none.add(2, trial(3, 2));
  EXPECT_FALSE(none.done());
  EXPECT_EQ(none.best(), std::nullopt);
  EXPECT_THAT(none.text(50, 50), HasSubstr("Every rate diverged."));
}

TEST(RateSearch, KeepsItsRunsBesideTheRunsFolder) {
  RunConfig run;
  run.run_dir = "runs/demo/";
  EXPECT_EQ(rate_folder(run), "runs/demo.find-rate");
}

}  // namespace
}  // namespace moe::test
