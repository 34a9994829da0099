// How processes meet, and what they say of one that does not come, ends or no longer answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/progress_count.h"
#include "tests/support/rank_processes.h"
#include "tests/support/ranks.h"

namespace moe {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string text_of(const std::exception_ptr& thrown) {
  if (!thrown) return "";
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// What the ranks of `places` throw when they meet.
std::vector<std::string> meeting_of(std::vector<RankPlace> places) {
  const Listener listener(0, true);
  std::vector<std::string> thrown(places.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < places.size(); ++i) {
    threads.emplace_back([&, i] {
      places[i].port = listener.port();
      try {
        meet(places[i], places[i].rank == 0 ? &listener : nullptr);
      } catch (const std::exception& error) {
        thrown[i] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return thrown;
}

TEST(Meeting, NamesWhoIsMissing) {
  const auto thrown = meeting_of({{.rank = 0, .size = 4, .limit_seconds = 0.5}, {.rank = 2, .size = 4}});
  EXPECT_THAT(thrown[0], AllOf(StartsWith("ranks 1, 3 of 4 did not come to "), HasSubstr("within 0.5 s")));
  EXPECT_THAT(thrown[1], AllOf(StartsWith("rank 0 on "), HasSubstr("ranks 1, 3 of 4 did not come to ")));
}

TEST(Meeting, RefusesAnotherNumberOfRanks) {
  const auto thrown = meeting_of({{.rank = 0, .size = 2}, {.rank = 1, .size = 3}});
  EXPECT_THAT(thrown[0], HasSubstr("came as rank 1 of 3, expected a rank from 1 to 1 of 2"));
}

TEST(Meeting, RefusesOneRankTwice) {
  const auto thrown = meeting_of({{.rank = 0, .size = 3}, {.rank = 1, .size = 3}, {.rank = 1, .size = 3}});
  EXPECT_THAT(thrown[0], HasSubstr("two processes came as rank 1"));
}

TEST(Meeting, NeedsRank0) {
  const Listener taken(0, true);
  int port = taken.port();
  EXPECT_THAT(text_of([&]() -> std::exception_ptr {
                try {
                  Listener(port, true);
                } catch (...) {
                  return std::current_exception();
                }
                return nullptr;
              }()),
              HasSubstr(fmt::format("cannot meet at port {}", port)));
  {
    const Listener gone(0, true);
    port = gone.port();
  }
  try {
    meet({.rank = 1, .size = 2, .port = port, .limit_seconds = 0.3}, nullptr);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), StartsWith("rank 1 found nobody at 127.0.0.1 port "));
  }
}

TEST(Meeting, PassesOverStrangers) {
  const Listener listener(0, true);
  std::thread stranger([&] {
    const Socket socket = connect_to("127.0.0.1", listener.port(), 5, [] {});
    socket.send_message("GET / HTTP/1.1", 5);
  });
  std::thread other([&] {
    stranger.join();
    meet({.rank = 1, .size = 2, .port = listener.port()}, nullptr);
  });
  EXPECT_EQ(meet({.rank = 0, .size = 2, .port = listener.port()}, &listener).hosts.size(), 2u);
  other.join();
}

TEST(Meeting, NoticesOneThatEndsBeforeAllHaveCome) {
  const Listener listener(0, true);
  std::thread first([&] {
    const Socket socket = connect_to("127.0.0.1", listener.port(), 5, [] {});
    socket.send_message("moe-rank 1 3 1 here", 5);
  });
  const double start = steady_seconds();
  try {
    meet({.rank = 0, .size = 3, .port = listener.port()}, &listener);
    ADD_FAILURE();
  } catch (const RankLost& lost) {
    EXPECT_EQ(lost.rank, 1);
    EXPECT_THAT(lost.what(), AllOf(StartsWith("rank 1 on here ended: "), HasSubstr("before all ranks had met")));
  }
  EXPECT_LT(steady_seconds() - start, RankPlace().limit_seconds / 2);
  first.join();
}

TEST(Meeting, AsksWhetherTheOthersCanStillCome) {
  const Listener listener(0, true);
  const auto check = [] { throw RankLost(2, "here", 0, "it never began"); };
  EXPECT_THROW(meet({.rank = 0, .size = 3, .port = listener.port(), .check = check}, &listener), RankLost);
  int nobody = 0;
  {
    const Listener gone(0, true);
    nobody = gone.port();
  }
  EXPECT_THROW(meet({.rank = 1, .size = 3, .port = nobody, .check = check}, nullptr), RankLost);
}

// A process that is killed says nothing: only its connections end.
TEST(LostRank, IsNamedThoughOthersEndToo) {
  const Listener listener(0, true);
  std::vector<std::string> thrown(3);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      const RankPlace place{.rank = rank, .size = 3, .port = listener.port()};
      if (rank == 1) {
        meet(place, nullptr);  // whose connections end here
        return;
      }
      SocketCommunicator communicator(place, rank == 0 ? &listener : nullptr);
      communicator.set_step(412);
      try {
        communicator.gather("x");
      } catch (const RankLost& lost) {
        EXPECT_EQ(lost.rank, 1);
        thrown[static_cast<size_t>(rank)] = lost.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const size_t rank : {0, 2}) {
    EXPECT_EQ(thrown[rank],
              fmt::format("rank 1 on {} ended in step 412: it was killed, or its connection broke", host_name()));
  }
}

// One that is stopped keeps its connections.
TEST(LostRank, IsOneThatDoesNotAnswer) {
  const double began = steady_seconds();
  std::atomic<int> noticed{0};
  const Listener listener(0, true);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      const RankPlace place{.rank = rank, .size = 3, .port = listener.port()};
      if (rank == 2) {
        const Meeting silent = meet(place, nullptr);
        while (noticed < 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return;
      }
      SocketCommunicator communicator(place, rank == 0 ? &listener : nullptr, {.silent_seconds = 2.5});
      try {
        communicator.gather("x");
      } catch (const RankLost& lost) {
        EXPECT_EQ(lost.rank, 2);
        EXPECT_THAT(lost.what(), HasSubstr("has not answered for 2.5 s"));
      }
      ++noticed;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LT(steady_seconds() - began, 20);
}

// A rank that computes does not look at its connections: its process must end all the same.
TEST(LostRank, EndsARankThatStillComputes) {
  std::atomic<bool> given_up{false};
  std::string why;
  const auto thrown = test::try_on_sockets(2,
                                           [&](Communicator& communicator) {
                                             if (communicator.rank() == 1) fail("no memory");
                                             while (!given_up)
                                               std::this_thread::sleep_for(std::chrono::milliseconds(20));
                                           },
                                           {.give_up_seconds = 0.2, .give_up = [&](const RankLost& lost) {
                                              if (!given_up) why = lost.what();
                                              given_up = true;
                                            }});
  EXPECT_THAT(why, AllOf(StartsWith("rank 1 on "), testing::EndsWith(": no memory")));
  EXPECT_TRUE(thrown[1]);
}

/// A limit of seconds that no standstill makes longer.
Watch::Options hangs_after(double seconds) { return {.hang = {.seconds = seconds, .first_step_seconds = seconds}}; }

// It is alive, so its watch answers.
TEST(HangingRank, EndsAllAndIsNamed) {
  for (const int size : {2, 4}) {
    for (const int hangs : {0, 1}) {
      SCOPED_TRACE(fmt::format("rank {} of {}", hangs, size));
      std::atomic<int> noticed{0};
      std::atomic<bool> given_up{false};
      Watch::Options options = hangs_after(1.5);
      options.give_up_seconds = 60;  // of the others
      options.give_up = [&](const RankLost& lost) { given_up = lost.rank == hangs; };
      const auto thrown = test::try_on_sockets(
          size,
          [&](Communicator& communicator) {
            communicator.set_step(7);
            while (communicator.rank() == hangs && noticed < size - 1) {
              std::this_thread::sleep_for(std::chrono::milliseconds(20));
            }
            if (communicator.rank() == hangs) {
              while (!given_up) std::this_thread::yield();
              return;
            }
            try {
              communicator.gather("x");
            } catch (const RankLost&) {
              ++noticed;
              throw;
            }
          },
          options);
      for (int rank = 0; rank < size; ++rank) {
        if (rank == hangs) continue;
        EXPECT_THAT(text_of(thrown[static_cast<size_t>(rank)]),
                    AllOf(StartsWith(fmt::format("rank {} on {} ended in step 7: it is alive", hangs, host_name())),
                          HasSubstr("has done nothing for 1 s, and the others wait")));
      }
    }
  }
}

void wait_while_rank_1(const std::function<void()>& works) {
  const auto thrown = test::try_on_sockets(
      2,
      [&](Communicator& communicator) {
        communicator.set_step(7);
        if (communicator.rank() == 1) works();
        communicator.gather("x");
      },
      hangs_after(1.5));
  for (const std::exception_ptr& one : thrown) EXPECT_EQ(text_of(one), "");
}

TEST(HangingRank, IsNoneThatWorksOrWaitsForADisk) {
  const auto for_seconds = [](double seconds, const std::function<void()>& each) {
    for (const double end = steady_seconds() + seconds; steady_seconds() < end;) {
      each();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  };
  wait_while_rank_1([&] { for_seconds(4, note_progress); });
  wait_while_rank_1([&] {
    const SystemWait wait;
    for_seconds(4, [] {});
  });
}

TEST(ProcessOfARank, AddsUp) {
  const auto add_up = [](Communicator& ranks) {
    float sum = static_cast<float>(ranks.rank() + 1);
    ranks.all_reduce(View(&sum, DType::f32, {1}));
    EXPECT_EQ(sum, static_cast<float>(ranks.size() * (ranks.size() + 1) / 2));
  };
  if (!test::as_rank_process(add_up)) GTEST_SKIP() << "RankProcesses runs it";
}

TEST(ProcessOfARank, IsLost) {
  const auto leave = [](Communicator& ranks) {
    if (ranks.rank() == 1) ::_exit(3);
    ranks.gather("");
  };
  if (!test::as_rank_process(leave)) GTEST_SKIP() << "RankProcesses runs it";
}

TEST(RankProcesses, RunATestAndTellItsFailures) {
  constexpr std::chrono::seconds kLimit(60);
  EXPECT_EQ(test::failure_of_rank_processes("ProcessOfARank.AddsUp", 3, kLimit), "");
  const std::string failure = test::failure_of_rank_processes("ProcessOfARank.IsLost", 2, kLimit);
  EXPECT_THAT(failure, AllOf(HasSubstr("rank 0 of 2"), HasSubstr("rank 1 of 2"), HasSubstr("rank 1 on ")));
}

}  // namespace
}  // namespace moe
