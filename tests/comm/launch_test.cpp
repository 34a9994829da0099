#include "comm/launch.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace moe {
namespace {

using testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

std::optional<Launch> launch_of(const Variables& variables) {
  return launch_from([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal(const Variables& variables) {
  try {
    launch_of(variables);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Launch, IsOneRankWithoutALauncher) {
  EXPECT_FALSE(launch_of({}));
  EXPECT_FALSE(launch_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
  EXPECT_FALSE(launch_of({{"WORLD_SIZE", "4"}}));
  // A script of sbatch is one process.
  EXPECT_FALSE(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}));
}

TEST(Launch, ReadsEachLauncher) {
  const auto torch = launch_of({{"RANK", "3"},
                                {"WORLD_SIZE", "4"},
                                {"LOCAL_RANK", "1"},
                                {"LOCAL_WORLD_SIZE", "2"},
                                {"MASTER_ADDR", "node1"},
                                {"MASTER_PORT", "4000"}});
  ASSERT_TRUE(torch);
  EXPECT_EQ(torch->place.rank, 3);
  EXPECT_EQ(torch->place.size, 4);
  EXPECT_EQ(torch->ranks_here, 2);
  EXPECT_EQ(torch->number_here, 1);
  EXPECT_EQ(torch->place.address, "node1");
  EXPECT_EQ(torch->place.port, 4000);

  const auto mpi =
      launch_of({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  ASSERT_TRUE(mpi);
  EXPECT_EQ(mpi->place.rank, 1);
  EXPECT_EQ(mpi->number_here, 1);  // by its rank, where the launcher does not say it
  EXPECT_EQ(mpi->place.address, "127.0.0.1");
  EXPECT_EQ(mpi->place.port, 29500);

  const auto slurm = launch_of({{"SLURM_PROCID", "5"},
                                {"SLURM_STEP_NUM_TASKS", "8"},
                                {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"},
                                {"MASTER_ADDR", "node1"}});
  ASSERT_TRUE(slurm);
  EXPECT_EQ(slurm->place.rank, 5);
  EXPECT_EQ(slurm->ranks_here, 4);
}

TEST(Launch, LeavesTorchrunsOwnPort) {
  const auto launch = launch_of({{"RANK", "0"},
                                 {"WORLD_SIZE", "2"},
                                 {"LOCAL_WORLD_SIZE", "2"},
                                 {"MASTER_PORT", "4000"},
                                 {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->place.port, 4001);
}

TEST(Launch, RefusesWhatMakesNoSense) {
  EXPECT_THAT(refusal({{"RANK", "4"}, {"WORLD_SIZE", "4"}}), HasSubstr("RANK is \"4\", expected a number from 0 to 3"));
  EXPECT_THAT(refusal({{"RANK", "x"}, {"WORLD_SIZE", "4"}}), HasSubstr("RANK is \"x\""));
  EXPECT_THAT(refusal({{"RANK", "0"}, {"WORLD_SIZE", "0"}}), HasSubstr("WORLD_SIZE is \"0\""));
  EXPECT_THAT(refusal({{"RANK", "0"}, {"WORLD_SIZE", "4"}, {"LOCAL_WORLD_SIZE", "2"}}),
              HasSubstr("MASTER_ADDR is not set"));
  EXPECT_THAT(refusal({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "2"}, {"MASTER_PORT", "0"}}),
              HasSubstr("MASTER_PORT is \"0\""));
}

}  // namespace
}  // namespace moe
