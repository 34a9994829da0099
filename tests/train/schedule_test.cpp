// Each schedule against its formula in docs/training.md, at the steps where something changes.

#include "train/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

namespace moe {
namespace {

Schedule schedule_of(ScheduleKind kind) {
  return {.kind = kind,
          .peak = 0.5,
          .steps = 1000,
          .warmup_steps = 100,
          .decay_factor = 0.3,
          .final_ratio = 0.04,
          .decay_fraction = 0.25};
}

TEST(Schedule, WarmsUpLinearlyInEveryKind) {
  for (const ScheduleKind kind :
       {ScheduleKind::step_decay, ScheduleKind::constant, ScheduleKind::cosine, ScheduleKind::wsd}) {
    const Schedule schedule = schedule_of(kind);
    EXPECT_DOUBLE_EQ(schedule.rate(1), 0.005) << name(kind);
    EXPECT_DOUBLE_EQ(schedule.rate(50), 0.25) << name(kind);
    EXPECT_DOUBLE_EQ(schedule.rate(100), 0.5) << name(kind);
    Schedule cold = schedule;
    cold.warmup_steps = 0;
    EXPECT_NEAR(cold.rate(1), 0.5, 1e-5) << name(kind);
  }
}

TEST(Schedule, ConstantStaysAtThePeak) {
  const Schedule schedule = schedule_of(ScheduleKind::constant);
  for (const int64_t step : {101, 500, 1000}) EXPECT_EQ(schedule.rate(step), 0.5);
}

TEST(Schedule, StepDecayFallsBehindFourFifthsAndNineTenths) {
  const Schedule schedule = schedule_of(ScheduleKind::step_decay);
  EXPECT_EQ(schedule.rate(800), 0.5);
  EXPECT_DOUBLE_EQ(schedule.rate(801), 0.15);
  EXPECT_DOUBLE_EQ(schedule.rate(900), 0.15);
  EXPECT_DOUBLE_EQ(schedule.rate(901), 0.045);
  EXPECT_DOUBLE_EQ(schedule.rate(1000), 0.045);
}

TEST(Schedule, CosineIsHalfWayInTheMiddleAndEndsAtTheFinalRatio) {
  const Schedule schedule = schedule_of(ScheduleKind::cosine);
  EXPECT_DOUBLE_EQ(schedule.rate(550), 0.5 * (0.04 + 0.96 / 2));  // half of the 900 steps behind the warm-up
  EXPECT_DOUBLE_EQ(schedule.rate(325), 0.5 * (0.04 + 0.96 * (1 + std::sqrt(0.5)) / 2));
  EXPECT_DOUBLE_EQ(schedule.rate(775), 0.5 * (0.04 + 0.96 * (1 - std::sqrt(0.5)) / 2));
  EXPECT_DOUBLE_EQ(schedule.rate(1000), 0.02);
  for (int64_t step = 101; step < 1000; ++step) EXPECT_GT(schedule.rate(step), schedule.rate(step + 1));
}

TEST(Schedule, WsdIsStableThenFallsLinearlyOverItsFraction) {
  const Schedule schedule = schedule_of(ScheduleKind::wsd);
  EXPECT_EQ(schedule.rate(101), 0.5);
  EXPECT_EQ(schedule.rate(750), 0.5);
  EXPECT_LT(schedule.rate(751), 0.5);
  EXPECT_DOUBLE_EQ(schedule.rate(875), 0.5 * (0.04 + 0.96 / 2));
  EXPECT_DOUBLE_EQ(schedule.rate(1000), 0.02);
  Schedule longer = schedule;
  longer.decay_fraction = 0.5;
  EXPECT_DOUBLE_EQ(longer.rate(750), 0.5 * (0.04 + 0.96 / 2));
}

TEST(Schedule, TakesThePeakAndTheFinalRatioAsGiven) {
  for (const ScheduleKind kind : {ScheduleKind::cosine, ScheduleKind::wsd}) {
    Schedule schedule = schedule_of(kind);
    schedule.final_ratio = 0;
    EXPECT_NEAR(schedule.rate(1000), 0, 1e-12) << name(kind);
    schedule.final_ratio = 1;
    EXPECT_DOUBLE_EQ(schedule.rate(600), 0.5) << name(kind);
    schedule.peak = 2;
    EXPECT_DOUBLE_EQ(schedule.rate(600), 2) << name(kind);
  }
}

}  // namespace
}  // namespace moe
