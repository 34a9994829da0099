// Paired differences against values computed by hand, and the coverage of their intervals over simulated systems.

#include "eval/paired.h"

#include <cmath>
#include <numbers>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "base/student.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;

std::vector<DocumentLoss> losses_of(const std::vector<int64_t>& tokens, const std::vector<double>& nats) {
  std::vector<DocumentLoss> losses;
  for (size_t i = 0; i < tokens.size(); ++i) {
    losses.push_back(
        {.domain = 0, .index = static_cast<int64_t>(i), .tokens = tokens[i], .bytes = 4 * tokens[i], .nats = nats[i]});
  }
  return losses;
}

TEST(PairedDifference, OfEqualDocumentsIsStudentsOverThem) {
  const auto a = losses_of({10, 10, 10}, {30, 20, 25}), b = losses_of({10, 10, 10}, {32, 21, 28});
  const Difference nats = paired_difference(a, b, LossUnit::nats_per_token);
  EXPECT_EQ(nats.pairs, 3);
  EXPECT_NEAR(nats.a, 2.5, 1e-12);
  EXPECT_NEAR(nats.b, 2.7, 1e-12);
  EXPECT_NEAR(nats.difference, 0.2, 1e-12);
  // The differences 0.2, 0.1 and 0.3 have the standard deviation 0.1.
  EXPECT_NEAR(nats.error, 4.303 * 0.1 / std::sqrt(3), 1e-12);
  const Difference bits = paired_difference(a, b, LossUnit::bits_per_byte);
  EXPECT_NEAR(bits.difference, 0.2 / 4 / std::numbers::ln2, 1e-12);
  EXPECT_NEAR(bits.error, nats.error / 4 / std::numbers::ln2, 1e-12);
}

TEST(PairedDifference, OfUnequalDocumentsIsTheJackknifes) {
  const auto a = losses_of({10, 30}, {20, 60}), b = losses_of({10, 30}, {30, 60});
  const Difference difference = paired_difference(a, b, LossUnit::nats_per_token);
  EXPECT_NEAR(difference.difference, 10.0 / 40, 1e-12);
  // Without the first document 0, without the second 1: sqrt(1 / 2 * (0.25 + 0.25)) = 0.5.
  // 40^2 / (10^2 + 30^2) = 1.6 equal documents are the least, 2.
  EXPECT_NEAR(difference.error, 12.706 * 0.5, 1e-12);
}

TEST(PairedDifference, ALongDocumentLeavesFewDegreesOfFreedom) {
  const auto a = losses_of({10, 10, 10, 30}, {0, 0, 0, 0}), b = losses_of({10, 10, 10, 30}, {1, 2, 3, 3});
  // 60^2 / (3 * 10^2 + 30^2) = 3 equal documents; without each: 8 / 50, 7 / 50, 6 / 50, 6 / 30.
  double squares = 0;
  for (const double without : {0.16, 0.14, 0.12, 0.2}) squares += (without - 0.155) * (without - 0.155);
  EXPECT_NEAR(paired_difference(a, b, LossUnit::nats_per_token).error, 4.303 * std::sqrt(0.75 * squares), 1e-12);
}

TEST(PairedDifference, OfASystemAndItselfIsZero) {
  const auto a = losses_of({10, 30, 7}, {20, 60, 21});
  const Difference difference = paired_difference(a, a, LossUnit::bits_per_byte);
  EXPECT_EQ(difference.difference, 0);
  EXPECT_EQ(difference.error, 0);
  EXPECT_FALSE(is_clear(difference));
}

TEST(PairedDifference, DocumentsWithoutATargetChangeNothing) {
  const auto a = losses_of({10, 0, 30}, {20, 0, 60}), b = losses_of({10, 0, 30}, {30, 0, 60});
  const Difference difference = paired_difference(a, b, LossUnit::nats_per_token);
  EXPECT_EQ(difference.pairs, 2);
  EXPECT_NEAR(difference.error, 12.706 * 0.5, 1e-12);
}

TEST(PairedDifference, OfOneDocumentHasNoInterval) {
  const Difference one = paired_difference(losses_of({10}, {20}), losses_of({10}, {25}), LossUnit::nats_per_token);
  EXPECT_NEAR(one.difference, 0.5, 1e-12);
  EXPECT_TRUE(std::isnan(one.error));
  EXPECT_FALSE(is_clear(one));
  EXPECT_EQ(difference_text(one), "+0.5000");
}

TEST(PairedDifference, OverSeedsIsStudents) {
  const std::vector<double> a{2.0, 2.5, 3.0}, b{1.9, 2.3, 2.7};
  const Difference difference = paired_over_seeds(a, b);
  EXPECT_NEAR(difference.difference, -0.2, 1e-12);
  EXPECT_NEAR(difference.error, 4.303 * 0.1 / std::sqrt(3), 1e-12);
  EXPECT_TRUE(std::isnan(paired_over_seeds(std::vector{1.0}, std::vector{2.0}).error));
}

/// Two systems over texts whose lengths and difficulties differ far more than the systems do. Without noise, a
/// document's loss per token is the same under both, with `shift` added for b.
class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed, 7) {}

  std::pair<std::vector<DocumentLoss>, std::vector<DocumentLoss>> documents(int count, double shift) {
    std::vector<int64_t> tokens;
    std::vector<double> a, b;
    for (int i = 0; i < count; ++i) {
      const auto length = static_cast<double>(tokens.emplace_back(1 + std::llround(200 * std::exp(normal()))));
      const double hard = 3 + 0.6 * normal();
      a.push_back(length * (hard + 0.05 * normal()));
      b.push_back(length * (hard + 0.05 * normal() + shift));
    }
    return {losses_of(tokens, a), losses_of(tokens, b)};
  }
  double normal() { return random_.normal(next_++); }

 private:
  Random random_;
  uint64_t next_ = 0;
};

/// How often the interval holds the true difference, and its mean width, in 4000 repetitions.
struct Coverage {
  double share = 0, half_width = 0;
};
template <class Interval>
Coverage coverage(double truth, const Interval& interval) {
  constexpr int kRepetitions = 4000;
  Coverage result;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    const Difference difference = interval();
    result.share += (std::abs(difference.difference - truth) <= difference.error) / double{kRepetitions};
    result.half_width += difference.error / kRepetitions;
  }
  return result;
}

// The share of 4000 repetitions has the standard deviation 0.0035. The lengths have a long tail, so that a few
// documents are most of a text; the least numbers give intervals that are a little too wide.
TEST(Coverage, OfEqualSystemsIs95Percent) {
  for (const int documents : {5, 10, 30, 100, 400}) {
    Simulation simulation(1);
    const Coverage found = coverage(0, [&] {
      const auto [a, b] = simulation.documents(documents, 0);
      return paired_difference(a, b, LossUnit::nats_per_token);
    });
    EXPECT_GT(found.share, 0.935) << documents << " documents";
    EXPECT_LT(found.share, documents < 10 ? 0.985 : 0.975) << documents << " documents";
  }
}

TEST(Coverage, OfDifferentSystemsIs95PercentToo) {
  Simulation simulation(2);
  const Coverage found = coverage(0.02, [&] {
    const auto [a, b] = simulation.documents(50, 0.02);
    return paired_difference(a, b, LossUnit::nats_per_token);
  });
  EXPECT_NEAR(found.share, 0.95, 4 * 0.0035);
}

TEST(Coverage, PairsAreFarNarrowerThanTwoSeparateIntervals) {
  Simulation paired(3), separate(3);
  const Coverage narrow = coverage(0, [&] {
    const auto [a, b] = paired.documents(50, 0);
    return paired_difference(a, b, LossUnit::nats_per_token);
  });
  const Coverage wide = coverage(0, [&] {  // of other documents each
    const auto a = separate.documents(50, 0).first, b = separate.documents(50, 0).second;
    return paired_difference(a, b, LossUnit::nats_per_token);
  });
  EXPECT_LT(5 * narrow.half_width, wide.half_width);
}

TEST(Coverage, OverSeedsIs95Percent) {
  for (const int seeds : {2, 3, 5}) {
    Simulation simulation(4);
    const Coverage found = coverage(0, [&] {
      std::vector<double> a, b;
      for (int seed = 0; seed < seeds; ++seed) {
        const double both = simulation.normal();
        a.push_back(both + 0.1 * simulation.normal());
        b.push_back(both + 0.1 * simulation.normal());
      }
      return paired_over_seeds(a, b);
    });
    EXPECT_NEAR(found.share, 0.95, 4 * 0.0035) << seeds << " seeds";
  }
}

DocumentLosses two_domains(double more) {
  DocumentLosses losses{.domains = {"books", "code"}, .documents = losses_of({10, 20, 30}, {20, 50, 60})};
  losses.documents[1].domain = 1;
  for (DocumentLoss& document : losses.documents) document.nats += more;
  return losses;
}

TEST(Comparison, HasEachDomainAndAll) {
  const Comparison comparison = compare_documents(two_domains(0), two_domains(1), LossUnit::nats_per_token, "A", "B");
  ASSERT_EQ(comparison.domains.size(), 2u);
  EXPECT_EQ(comparison.domains[0].first, "books");
  EXPECT_NEAR(comparison.domains[0].second.difference, 2.0 / 40, 1e-12);
  EXPECT_NEAR(comparison.domains[1].second.difference, 1.0 / 20, 1e-12);
  EXPECT_NEAR(comparison.all.difference, 3.0 / 60, 1e-12);
  const Json json = comparison_json(comparison);
  EXPECT_EQ(json["all"]["documents"], 3);
  EXPECT_EQ(json["domains"]["code"]["error"].dump(), "null");
}

TEST(Comparison, RefusesOtherDocuments) {
  DocumentLosses fewer = two_domains(0), other = two_domains(0);
  fewer.documents.pop_back();
  EXPECT_EQ(error_of([&] { compare_documents(two_domains(0), fewer, LossUnit::nats_per_token, "A", "B"); }),
            "A has the losses of 3 documents and B those of 2; compare systems on the same documents");
  other.documents[1].domain = 0;
  EXPECT_EQ(error_of([&] { compare_documents(two_domains(0), other, LossUnit::nats_per_token, "A", "B"); }),
            "document 1 is 1 of code in A, but 1 of books in B; compare systems on the same documents");
}

}  // namespace
}  // namespace moe
