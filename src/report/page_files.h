#pragma once
/// The files that pages consist of.

#include <string_view>

namespace moe {

// src/report/page/
extern const std::string_view kFrameHtml, kStyleSheet, kCommonScript, kHeatScript;
extern const std::string_view kCurvesScript, kExpertsScript, kCausalScript, kReportScript, kTraceScript;
/// chart.min.js of Chart.js; empty if it was missing when the program was built (cmake/pages.cmake).
extern const std::string_view kChartScript;

}  // namespace moe
