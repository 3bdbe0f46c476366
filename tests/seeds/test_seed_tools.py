"""The seed catalog's tools, run as code in the engine that the service uses."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from quickjs_rs import JSError, Runtime

Document = dict[str, Any]

FOLDERS = {folder.name: folder for folder in sorted((Path(__file__).parents[2] / "seeds/custom-tools").iterdir())}
DEFINITIONS: dict[str, Document] = {
    name: yaml.safe_load((folder / "tool.yaml").read_text(encoding="utf-8")) for name, folder in FOLDERS.items()
}


async def run_tool(tool_name: str, tool_input: Document) -> Document:
    """Validate the input as the service does, then run the tool in a fresh engine.

    Raises:
        jsonschema_rs.ValidationError: the input does not fit the tool's schema.
        JSError: the tool threw.
    """
    jsonschema_rs.validator_for(DEFINITIONS[tool_name]["inputSchema"], offline=True).validate(tool_input)
    function = (FOLDERS[tool_name] / "execute.js").read_text(encoding="utf-8").strip()
    source = json.dumps(json.dumps(tool_input))
    context = json.dumps({"executionId": "exec_1", "agentId": "test-001", "department": "story", "project": "p"})
    code = f"JSON.stringify(await ({function})(JSON.parse({source}), {context}))"
    with Runtime() as runtime, runtime.new_context(timeout=5) as engine:
        return json.loads(await engine.eval_async(code))


@pytest.mark.parametrize("tool_name", DEFINITIONS)
async def test_a_tools_examples_match_its_schema_and_return_an_object(tool_name: str) -> None:
    results = [await run_tool(tool_name, example) for example in DEFINITIONS[tool_name]["exampleInputs"]]

    assert len(results) >= 2
    assert all(isinstance(result, dict) and result for result in results)


# One result per tool that was worked out by hand.


async def test_text_statistics_computes_the_flesch_kincaid_grade() -> None:
    result = await run_tool(
        "textStatistics", {"text": "The cat sat on the mat. The dog ran.\n\nDr. Kim barked at 3.5 cats."}
    )

    # 0.39 * 5 words a sentence + 11.8 * 1 syllable a word - 15.59, and 206.835 - 1.015 * 5 - 84.6 * 1
    assert (result["words"], result["sentences"], result["paragraphs"], result["syllables"]) == (15, 3, 2, 15)
    assert result["fleschKincaidGrade"] == -1.8
    assert result["fleschReadingEase"] == 117.2
    assert result["longestSentence"]["words"] == 6


async def test_beat_sheet_timing_puts_the_beats_of_110_pages_where_they_belong() -> None:
    result = await run_tool("beatSheetTiming", {"pages": 110, "draftBeats": [{"beat": "Midpoint", "page": 61}]})

    start_pages = {beat["beat"]: beat["startPage"] for beat in result["beats"]}
    assert len(start_pages) == 15
    assert (start_pages["Catalyst"], start_pages["Break into two"]) == (12, 25)
    assert (start_pages["Midpoint"], start_pages["All is lost"], start_pages["Final image"]) == (55, 75, 110)
    assert [act["pages"] for act in result["acts"]] == [25, 60, 25]
    assert result["draftComparison"][0]["pagesLate"] == 6
    assert result["draftComparison"][0]["verdict"] == "late"


@pytest.mark.parametrize(
    "screenplay",
    [
        "MAYA: Where were you?\nTOM (V.O.): Out.\n",
        "INT. KITCHEN - DAY\n\n  MAYA\n  (low)\n  Where were\n  you?\n\n  TOM (V.O.)\n  Out.\n\nHe leaves.",
        "Maya: Where were you?\nTom: (beat) Out.",
    ],
    ids=["inline", "centered", "title case"],
)
async def test_dialogue_share_reads_each_form_of_cue(screenplay: str) -> None:
    result = await run_tool("dialogueShare", {"screenplay": screenplay})

    assert result["totalWords"] == 4
    assert [(c["name"], c["words"], c["sharePercent"]) for c in result["characters"]] == [
        ("MAYA", 3, 75),
        ("TOM", 1, 25),
    ]
    assert result["characters"][0]["questions"] == 1


async def test_scene_breakdown_carries_the_time_of_day_over() -> None:
    headings = (
        "INT. HOUSE - HALL - NIGHT\nEXT. GARDEN - CONTINUOUS\nEst in this house.\nint. house - hall - later\nI/E CAR"
    )

    result = await run_tool("sceneBreakdown", {"screenplay": headings})

    assert [(s["setting"], s["location"], s["time"], s["words"]) for s in result["scenes"]] == [
        ("INT", "HOUSE - HALL", "NIGHT", 0),
        ("EXT", "GARDEN", "NIGHT", 4),
        ("INT", "HOUSE - HALL", "NIGHT", 0),
        ("INT/EXT", "CAR", "UNSPECIFIED", 0),
    ]
    assert (result["totalLocations"], result["locationChanges"]) == (3, 3)


async def test_character_presence_finds_absences_and_missing_encounters() -> None:
    casts = [["Maya"], ["Tom", "tom"], ["Tom", "Ines"], ["Maya", "Ines"]]
    scenes = [{"scene": str(number), "characters": cast} for number, cast in enumerate(casts, start=1)]

    result = await run_tool("characterPresence", {"scenes": scenes})

    presence = {person["name"]: person["presence"] for person in result["characters"]}
    absence = next(p["longestAbsence"] for p in result["characters"] if p["name"] == "Maya")
    assert presence == {"Maya": [1, 0, 0, 1], "Tom": [0, 1, 1, 0], "Ines": [0, 0, 1, 1]}
    assert absence == {"scenes": 2, "after": "1", "until": "4"}
    assert result["neverMeet"] == [["Maya", "Tom"]]


async def test_motif_tracker_distinguishes_a_forgotten_plant_from_a_returning_motif() -> None:
    texts = ["A key. The lamp is lit.", "Nothing.", "Lamplight, lamp by lamp."]
    motifs = [{"name": "key", "terms": ["key"]}, {"name": "lamp", "terms": ["lamp*", "the lamp"]}]
    scenes = [{"scene": str(number), "text": text} for number, text in enumerate(texts, start=1)]

    key, lamp = (await run_tool("motifTracker", {"scenes": scenes, "motifs": motifs}))["motifs"]

    assert (key["occurrences"], key["verdict"]) == (1, "planted, never paid off")
    assert lamp["verdict"] == "recurs"
    assert lamp["longestGap"] == {"scenes": 1, "after": "1", "until": "3"}
    assert lamp["scenes"][1] == {"scene": "3", "occurrences": 3}


async def test_scene_pacing_weighs_tension_by_pages() -> None:
    rows = [("1", 8, 2), ("2", 8, 3), ("3", 8, 3), ("4", 8, 9)]
    scenes = [{"scene": name, "eighths": eighths, "tension": tension} for name, eighths, tension in rows]

    result = await run_tool("scenePacing", {"scenes": scenes})

    assert result["totalPages"] == 4
    assert [quarter["averageTension"] for quarter in result["quarters"]] == [2, 3, 3, 9]
    assert result["flatStretches"] == [{"from": "1", "to": "3", "scenes": 3, "pages": 3}]
    assert result["peak"] == {"scene": "4", "tension": 9, "beginsAtPercent": 75}


async def test_backstory_timeline_finds_the_guest_who_was_not_born_yet() -> None:
    people = [{"name": "Ines", "birthYear": 1990}, {"name": "Karl", "birthYear": 1950, "deathYear": 2010}]
    events = [
        {"year": 2011, "event": "Will", "characters": ["Karl"]},
        {"year": 1985, "event": "Firm", "characters": ["ines"]},
    ]

    result = await run_tool("backstoryTimeline", {"storyYear": 2020, "characters": people, "events": events})

    assert [entry["year"] for entry in result["timeline"]] == [1985, 2011]
    assert [(c["kind"], c["character"]) for c in result["contradictions"]] == [
        ("before birth", "Ines"),
        ("after death", "Karl"),
    ]
    assert [person["ageInStoryYear"] for person in result["characters"]] == [30, None]


async def test_shot_list_duration_adds_frames_and_set_ups() -> None:
    shots: list[Document] = [{"shot": "1", "seconds": 6}, {"shot": "2", "seconds": 3, "setupMinutes": 10, "takes": 2}]

    result = await run_tool("shotListDuration", {"shots": shots, "fps": 25})

    assert result["screenTime"] == {"seconds": 9, "frames": 225, "timecode": "00:00:09:00", "fps": 25}
    # 25 + 4 * 0.1 + 3 * 3 minutes, and 10 + 2 * 0.05 + 1 * 3
    assert result["shootingEstimate"]["minutes"] == 47.5


async def test_palette_contrast_of_black_and_white_is_21() -> None:
    colors = [
        {"name": n, "hex": h} for n, h in [("white", "#FFF"), ("black", "#000000"), ("red", "#F00"), ("cyan", "#0ff")]
    ]

    result = await run_tool("paletteContrast", {"colors": colors})

    pairs = {tuple(pair["colors"]): pair for pair in result["pairs"]}
    assert pairs["white", "black"]["ratio"] == 21
    assert pairs["white", "red"]["ratio"] == 3.99
    assert pairs["red", "cyan"]["relation"] == "complementary"
    assert {"colors": ["white", "red"], "ratio": 3.99} in result["failingPairs"]


async def test_timecode_convert_skips_the_numbers_that_drop_frame_skips() -> None:
    marks = [{"label": "a", "frame": 1799}, {"label": "b", "frame": 1800}, {"label": "c", "timecode": "01:00:00;00"}]

    result = await run_tool("timecodeConvert", {"fps": 29.97, "dropFrame": True, "marks": marks})

    assert [mark["timecode"] for mark in result["marks"]] == ["00:00:59;29", "00:01:00;02", "01:00:00;00"]
    assert result["marks"][2]["frame"] == 107_892


async def test_tempo_to_frames_gives_12_frames_a_beat_for_120_bpm_at_24_fps() -> None:
    hits = [{"name": "slam", "frame": 61}]

    result = await run_tool("tempoToFrames", {"bpm": 120, "fps": 24, "hitPoints": hits})

    assert (result["framesPerBeat"], result["framesPerBar"]) == (12, 48)
    assert result["barStarts"][2]["frame"] == 96
    assert result["hitPoints"][0]["nearest"] == {"bar": 2, "beat": 2}
    assert result["hitPoints"][0]["offsetFrames"] == 1


async def test_cue_sheet_counts_overlapping_music_once() -> None:
    times = [("1M1", "00:00:00:00", "00:01:00:00"), ("1M2", "00:00:50:00", "00:01:30:12")]
    cues = [{"cue": cue, "title": cue, "use": "score", "in": first, "out": out} for cue, first, out in times]

    result = await run_tool("cueSheet", {"fps": 24, "programSeconds": 181, "cues": cues})

    assert (result["totalSeconds"], result["musicSeconds"], result["coveragePercent"]) == (100.5, 90.5, 50)
    assert result["overlaps"] == [{"cues": ["1M1", "1M2"], "seconds": 10}]


async def test_loudness_check_says_when_the_gain_to_target_needs_a_limiter() -> None:
    mixes = [
        {"name": "quiet", "integratedLufs": -26, "truePeakDbtp": -3},
        {"name": "good", "integratedLufs": -23.5, "truePeakDbtp": -1},
    ]

    result = await run_tool("loudnessCheck", {"specification": "ebu-r128", "mixes": mixes})

    quiet = result["mixes"][0]
    assert result["failing"] == ["quiet"]
    assert (quiet["gainToTargetDb"], quiet["truePeakAfterGainDbtp"], quiet["limitingNeededDb"]) == (3, 0, 1)


async def test_storage_estimate_multiplies_rate_hours_and_copies() -> None:
    items = [{"name": "A camera", "megabitsPerSecond": 800, "hours": 10}]

    result = await run_tool("storageEstimate", {"items": items, "copies": 3, "headroomPercent": 25})

    # 800 Mbit/s are 100 MB/s, 360 GB an hour
    assert (result["totalGigabytes"], result["terabytesAllCopies"], result["offloadHoursPerCopy"]) == (3600, 13.5, 2)


async def test_schedule_rollup_counts_days_moves_and_hold_days() -> None:
    rows = [
        ("1", 12, "Harbor", "Maya"),
        ("2", 40, "Court", "Tom"),
        ("3", 12, "Harbor", "Maya"),
        ("4", 4, "Hut", "Tom"),
    ]
    scenes: list[Document] = [{"scene": s, "eighths": e, "location": place, "cast": [who]} for s, e, place, who in rows]

    grouped = await run_tool("scheduleRollup", {"scenes": scenes})
    as_given = await run_tool("scheduleRollup", {"scenes": scenes, "order": "as-given"})

    # grouped: Harbor 24 | Court 32 | Court 8, move 8, Hut 4; as given: 12 | 32 | 8, move 8, 12, and no room for a move
    assert [day["eighths"] for day in grouped["days"]] == [24, 32, 12]
    assert (grouped["companyMoves"], grouped["totalPages"], grouped["scenesOverADay"]) == (
        1,
        8.5,
        [{"scene": "2", "days": 2}],
    )
    assert [day["eighths"] for day in as_given["days"]] == [12, 32, 20, 4]
    assert {person["name"]: person["holdDays"] for person in as_given["cast"]} == {"Maya": 1, "Tom": 0}


async def test_budget_rollup_adds_fringes_and_contingency_to_the_cent() -> None:
    lines: list[Document] = [
        {"account": "1", "description": "a", "category": "production", "quantity": 3, "rate": 0.1, "fringePercent": 10},
        {"account": "2", "description": "b", "category": "other", "quantity": 2, "count": 2, "rate": 25,
         "excludeFromContingency": True},
    ]  # fmt: skip

    result = await run_tool("budgetRollup", {"lines": lines, "contingencyPercent": 10, "cap": 100})

    # 0.30 + 0.03 fringes, 100.00, contingency 0.03 on the first line alone
    assert (result["subtotal"], result["contingency"], result["total"]) == (100.33, 0.03, 100.36)
    assert result["remainingUnderCap"] == -0.36


@pytest.mark.parametrize(
    ("tool_name", "tool_input", "message"),
    [
        ("textStatistics", {"text": " … "}, "no words"),
        ("dialogueShare", {"screenplay": "She walks away."}, "no dialogue found"),
        ("sceneBreakdown", {"screenplay": "She walks away."}, "no scene headings"),
        ("characterPresence", {"scenes": [{"scene": "1", "characters": []}]}, "no scene names a character"),
        ("beatSheetTiming", {"pages": 90, "draftBeats": [{"beat": "Finale", "page": 95}]}, "page 95 of a draft of 90"),
        (
            "loudnessCheck",
            {"specification": "custom", "mixes": [{"name": "m", "integratedLufs": -20, "truePeakDbtp": -2}]},
            "needs targetLufs",
        ),
        ("storageEstimate", {"items": [{"name": "a", "megabitsPerSecond": 100, "hours": 0}]}, "nothing to store"),
        ("timecodeConvert", {"fps": 24, "dropFrame": True, "marks": [{"label": "a", "frame": 1}]}, "no drop-frame"),
        (
            "scheduleRollup",
            {"scenes": [{"scene": "1", "eighths": 1, "location": "x"}], "eighthsPerDay": 8},
            "leaves nothing",
        ),
        (
            "tempoToFrames",
            {"bpm": 60, "fps": 24, "startFrame": 9, "hitPoints": [{"name": "a", "frame": 1}]},
            "before the first beat",
        ),
        (
            "cueSheet",
            {
                "fps": 24,
                "cues": [{"cue": "1M1", "title": "a", "use": "score", "in": "00:00:01:00", "out": "00:00:01:00"}],
            },
            "is not after",
        ),
        (
            "backstoryTimeline",
            {
                "storyYear": 2000,
                "characters": [{"name": "A", "birthYear": 1}, {"name": "a", "birthYear": 2}],
                "events": [],
            },
            "declared twice",
        ),
        (
            "motifTracker",
            {"scenes": [{"scene": "1", "text": "a"}], "motifs": [{"name": "m", "terms": ["*"]}]},
            "holds no word",
        ),
    ],
)
async def test_a_tool_says_in_plain_words_what_it_cannot_compute(
    tool_name: str, tool_input: Document, message: str
) -> None:
    with pytest.raises(JSError, match=message):
        await run_tool(tool_name, tool_input)
