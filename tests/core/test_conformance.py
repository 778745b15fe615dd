"""The battery: every method passes it, each way of being wrong fails the check that is there for it, and nothing stays behind."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import cli, conformance, hooks
from mini_lib.conformance import case, checks, conform, models, run, verify
from mini_lib.conformance.finding import Case, Finding
from mini_lib.conformance.witness import apart, discord, kept, numbers, random_state, state
from mini_lib.refusal import Refusal
from mini_lib.registry import Method, methods, one_picture
from mini_lib.results import PatchMap


@pytest.mark.parametrize("slug", methods())
def test_every_registered_method_passes(slug):
    assert [str(finding) for finding in conform(slug, models.small()) if finding.failed] == []


@pytest.mark.parametrize("which", [models.tiny, models.small])
def test_the_handle_passes(which):
    found = verify(which())
    assert [str(finding) for finding in found if finding.failed] == []
    assert {finding.check for finding in found} == {check.__name__ for check in conformance.handle.CHECKS}


def mine(handle, prompt, token=None):
    """How likely each image token says the word, read at the last layer: a method as a user writes it."""
    target, before = handle.target(prompt, token), handle.passes
    last = hooks.points(handle)[-1]
    with hooks.record(handle, last) as seen:
        handle.logits(prompt.inputs)
    with torch.no_grad():
        said = handle.parts.head(handle.parts.norm(seen[last][0, prompt.tokens.image])).float().log_softmax(-1)
    values = said[:, target.ids[target.first]].reshape(prompt.tokens.grid).cpu().numpy()
    return PatchMap(values, "nats", prompt.picture, prompt.tokens.boxes, prompt.question, target.text, "mine",
                    {"forward_passes": handle.passes - before})


def test_a_plain_function_goes_through_it_unregistered():
    found = conform(mine)
    assert [str(finding) for finding in found if not finding.passed] == []
    assert {finding.check for finding in found} == {check.__name__ for check in checks.CHECKS if check is not checks.check_identities}
    assert "mine" not in methods()


# Ways to be wrong. Each takes the right method and spoils it in one respect.

def noisy(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=found.values + np.random.rand(*found.values.shape))


def noisy_by_itself(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=found.values + np.random.default_rng().random(found.values.shape))


def seeds_everything(handle, prompt, token=None):
    torch.manual_seed(0)
    return mine(handle, prompt, token)


def greedy(handle, prompt, token=None):
    target = handle.target(prompt, token)
    with_all = {**prompt.inputs, **{key: prompt.inputs[key].repeat(9, *[1] * (prompt.inputs[key].dim() - 1)) for key in prompt.inputs}}
    found = mine(handle, prompt, target)
    return replace(found, values=found.values + float(handle.score_inputs(with_all, target)[0]))


def batchwise(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=found.values * handle.batch_size)


def thrifty(handle, prompt, token=None):
    return replace(mine(handle, prompt, token), measured={"forward_passes": 0})


def silent(handle, prompt, token=None):
    return replace(mine(handle, prompt, token), measured={})


def full_precision_only(handle, prompt, token=None):
    return mine(handle, prompt, token) if next(handle.model.parameters()).numpy().any() else None


def half_is_doubled(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=found.values * (1 if handle.model.dtype == torch.float32 else 2))


def kernel_dependent(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=found.values + handle.model.config.text_config._attn_implementation.endswith("eager"))


def leaves_a_hook(handle, prompt, token=None):
    handle.parts.blocks[0].register_forward_hook(lambda module, args, output: None)
    return mine(handle, prompt, token)


def leaves_a_hook_everywhere(handle, prompt, token=None):
    torch.nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    return mine(handle, prompt, token)


def trains(handle, prompt, token=None):
    handle.model.train()
    return mine(handle, prompt, token)


def leaves_gradients(handle, prompt, token=None):
    weight = handle.parts.head.weight.requires_grad_()
    handle.score_inputs(prompt.inputs, handle.target(prompt, token), gradient=True).sum().backward()
    weight.requires_grad_(False)
    return replace(mine(handle, prompt, token))


def changes_weights(handle, prompt, token=None):
    weight = handle.parts.head.weight
    plain = weight.data[0, 0].clone()
    weight.data[0, 0] = 7
    found = mine(handle, prompt, token)
    weight.data[0, 0] = plain
    return found


def changes_the_prompt(handle, prompt, token=None):
    prompt.inputs["pixel_values"] *= 1.0001
    return mine(handle, prompt, token)


def changes_the_kernel(handle, prompt, token=None):
    handle.model.config.text_config._attn_implementation = "sdpa"
    return mine(handle, prompt, token)


def swallows_errors(handle, prompt, token=None):
    try:
        return mine(handle, prompt, token)
    except RuntimeError:
        return None


def swallows_ctrl_c(handle, prompt, token=None):
    try:
        return mine(handle, prompt, token)
    except BaseException as error:
        raise RuntimeError("stopped") from error


def stretched(handle, prompt, token=None):
    values = np.asarray(prompt.picture.resize(prompt.tokens.grid[::-1]), float).mean(2)
    with np.errstate(invalid="ignore"):
        return replace(mine(handle, prompt, token), values=(values - values.min()) / (values.max() - values.min()))


def blind(handle, prompt, token=None):
    return replace(mine(handle, prompt, token), values=np.ones(prompt.tokens.grid))


def eight_by_eight(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=np.resize(found.values, (8, 8)))


def boxes_of_64_pixels(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, boxes=found.boxes / [*found.picture.size, *found.picture.size] * 64)


def transposed(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=found.values.T)


def upside_down(handle, prompt, token=None):
    found = mine(handle, prompt, token)
    return replace(found, values=found.values[::-1])


def unsaved(handle, prompt, token=None):
    return replace(mine(handle, prompt, token), measured={"forward_passes": 1, "mean": np.float32(1)})


def saved_as_another(handle, prompt, token=None):
    return replace(mine(handle, prompt, token), measured={"forward_passes": 1, "range": (0, 1)})


def first_word_only(handle, prompt, token=None):
    return replace(mine(handle, prompt, token), target="red")


def any_word(handle, prompt, token=None):
    return mine(handle, prompt, "red" if isinstance(token, str) and token not in handle.tokenizer.get_vocab() else token)


BAD = {
    noisy: "does not use up the global random numbers", noisy_by_itself: "two calls give the same",
    seeds_everything: "does not use up the global random numbers", greedy: "with a batch size of 7 it sends no more",
    batchwise: "batches of 1 give what batches of 64 give", thrifty: "is what the model saw", silent: "is what the model saw",
    full_precision_only: "bfloat16 gives the map of float32", half_is_doubled: "bfloat16 gives the map of float32",
    kernel_dependent: "eager attention gives what sdpa gives", leaves_a_hook: "changed: hooks",
    leaves_a_hook_everywhere: "changed: hooks of all modules", trains: "changed: train mode", leaves_gradients: "changed: `.grad`",
    changes_weights: "changed: weights", changes_the_prompt: "changed: the prompt",
    changes_the_kernel: "changed: attention implementation", swallows_errors: "the caller hears of it after an error",
    swallows_ctrl_c: "the caller hears of it after Ctrl-C", stretched: "black: every number is finite",
    blind: "another picture gives other numbers", eight_by_eight: "a map has the model's grid",
    boxes_of_64_pixels: "the boxes cover the picture", transposed: "change more than the one that differs",
    upside_down: "change more than the one that differs", unsaved: "The result holds numbers, and its `to_dict`",
    saved_as_another: "comes back from JSON", first_word_only: "says so", any_word: "as one token is refused",
}


@pytest.mark.parametrize("wrong", BAD, ids=lambda function: function.__name__)
def test_each_way_of_being_wrong_fails_its_check_and_leaves_nothing_behind(wrong):
    small = models.small()
    prompt = small.prompt(Image.effect_noise((48, 48), 80).convert("RGB"), "is the star red ?")
    before, chance = [state(one, prompt) for one in (small, *models.tinies())], random_state()
    weights = [{name: weight.clone() for name, weight in one.model.named_parameters()} for one in (small, *models.tinies())]
    said = [str(finding) for finding in conform(wrong, small) if finding.failed]
    for one, old in zip((small, *models.tinies()), weights):            # those are not put back by the battery
        with torch.no_grad():
            for name, weight in one.model.named_parameters():
                weight.copy_(old[name])
    assert any(BAD[wrong] in one for one in said), said
    assert [state(one, prompt) for one in (small, *models.tinies())] == before and random_state() == chance


def test_a_prompt_of_several_pictures_must_be_refused():
    given = case(mine, models.small())
    assert all(finding.passed for finding in run(checks.check_refuses_several_pictures, given))
    bare = Case("mine", lambda *args: mine(args[0], given.prompt), given.mllm, given.prompt, given.target)
    assert [finding.note for finding in run(checks.check_refuses_several_pictures, bare)] == ["they were explained"]


def test_a_kernel_may_be_refused():
    def sdpa_only(handle, prompt, token=None):
        if handle.model.config.text_config._attn_implementation.endswith("eager"):
            raise Refusal("this needs sdpa")
        return mine(handle, prompt, token)
    found = run(checks.check_attention_kernels, case(sdpa_only, models.small()))
    assert [(finding.passed, finding.note) for finding in found] == [(True, "refused: this needs sdpa")]


def test_what_a_method_raises_is_a_finding_and_the_other_checks_go_on():
    def broken(handle, prompt, token=None):
        raise ZeroDivisionError("nothing to divide by")
    found = conform(broken, models.small())
    assert {finding.check for finding in found} == {check.__name__ for check in checks.CHECKS if check is not checks.check_identities}
    assert any(finding.failed and finding.note == "ZeroDivisionError: nothing to divide by" for finding in found)


@pytest.fixture
def excused():
    return Method("transposed", "node", "paper", "cost", one_picture("transposed", transposed), lambda *args: [],
                  {"check_points_at_the_patch_that_differs": "it is transposed"})


def test_an_excuse_is_shown_and_does_not_count_and_one_that_is_not_needed_fails(excused):
    found = conform(excused, models.small())
    assert not any(finding.failed for finding in found)
    assert [str(finding).split(" ")[0] for finding in found if finding.excuse] == ["excused"]
    idle = conform(replace(excused, explain=one_picture("mine", mine)), models.small())
    assert [finding.claim for finding in idle if finding.failed] == ["the excuse for check_points_at_the_patch_that_differs is needed"]


def test_an_identity_that_does_not_hold_is_found_on_the_model_where_it_does_not():
    def identity(handle, prompt):
        return [Finding("norms are one", float((handle.parts.norm.weight - 1).abs().max()), 1e-3)]
    given = Case("mine", mine, models.small(), None, None, identity)
    assert [finding.passed for finding in run(checks.check_identities, replace(given, prompt=case(mine, models.small()).prompt))] == [False]


def test_the_small_model_hides_none_of_the_usual_errors():
    small, tiny = models.small(), models.tiny()
    assert all(float((module.weight - 1).abs().max()) > 0.1 for module in small.model.modules()
               if "Norm" in type(module).__name__)
    assert small.model.config.text_config.num_key_value_heads < small.model.config.text_config.num_attention_heads
    assert len(small.parts.blocks) != len(tiny.parts.blocks)
    prompt = small.prompt(Image.new("RGB", (48, 48)), "is the star red ?")
    assert prompt.tokens.grid == (6, 6) and len(small.target(prompt).ids) == 1
    before = random_state()
    assert torch.equal(models.small.__wrapped__().parts.head.weight, small.parts.head.weight) and random_state() == before


def test_what_is_not_weights_is_put_back():
    small = models.small()
    prompt = small.prompt(Image.new("RGB", (48, 48)), "is the star red ?")
    before = state(small, prompt)
    with pytest.raises(KeyboardInterrupt), kept(small):
        trains(small, prompt)
        hooks._CUTS.append("a cut")
        hooks._WATCHED["module"] = print
        small.parts.blocks[0].register_forward_hook(print)
        small.parts.norm.weight.requires_grad_().grad = torch.ones_like(small.parts.norm.weight)
        torch.set_grad_enabled(False)
        changed = [name for name, value in state(small, prompt).items() if value != before[name]]
        assert len(changed) == 6
        raise KeyboardInterrupt
    assert state(small, prompt) == before


@dataclass
class Numbers:
    values: np.ndarray

    def to_dict(self):
        return {"values": self.values.tolist()}


def test_how_far_two_results_may_be_apart():
    """Slack in nats for large maps; the same share of the largest value for small ones; 1e-5 where rounding begins."""
    def gap(values, others):
        return apart(Numbers(np.array(values)), Numbers(np.array(others)), 1e-3)
    assert gap([4.0, 0.0], [4.5, 0.0]) == (0.5, 1e-3)
    assert gap([0.5, 0.0], [0.5, 0.25]) == (0.25, 5e-4)
    assert gap([1e-4, 0.0], [1e-4, 0.0])[0] == 0 and gap([1e-4, 0.0], [2e-4, 0.0])[1] == 1e-5
    assert gap([1.0], [1.0, 2.0])[0] == gap([1.0], [np.nan])[0] == np.inf


def test_concordance_falls_with_noise_shift_and_scale():
    one = np.arange(8.0)
    assert discord(Numbers(one), Numbers(one)) == 0 == discord(Numbers(np.ones(4)), Numbers(np.ones(4)))
    assert discord(Numbers(one), Numbers(one + 1)) == pytest.approx(1 - 2 * one.var() / (2 * one.var() + 1))
    assert discord(Numbers(one), Numbers(2 * one)) > 0.2 and discord(Numbers(one), Numbers(-one)) > 1
    assert discord(Numbers(one), Numbers(one * np.nan)) == discord(Numbers(one), Numbers(one[:4])) == np.inf


def test_numbers_are_found_in_any_field():
    found = numbers(PatchMap(np.ones((2, 2)), "nats", None, np.zeros((4, 4)), "?", "x", "m", {"passes": 3}, (("a", 1.5), ("b", -2.0))))
    assert found.keys() == {"values", "words"} and found["words"].tolist() == [1.5, -2.0]


def test_check_prints_a_line_for_each_and_says_what_failed(capsys, monkeypatch, excused):
    bad = replace(excused, slug="bad", excuses={})
    monkeypatch.setattr("mini_lib.registry.methods", lambda: {"bad": bad, "transposed": excused})
    monkeypatch.setattr("mini_lib.cli._load", lambda model: models.small())
    assert cli.main(["check"]) == 1
    captured = capsys.readouterr()
    load, first, why, second, excuse = captured.out.splitlines()
    assert load.split()[0] == "load" and " of " in load and captured.err == ""
    total = int(first.split()[3])
    assert first.split()[:4] == ["bad", str(total - 1), "of", str(total)] and second.endswith("1 excused")
    assert why.startswith("  FAILED check_points_at_the_patch_that_differs: share") and "at most 0.2 is allowed." in why
    assert excuse.startswith("  excused ") and excuse.endswith("; it is transposed.")


def test_check_as_json_counts_and_is_strict_json(capsys, monkeypatch, excused):
    monkeypatch.setattr("mini_lib.cli._load", lambda model: models.small())
    monkeypatch.setattr("mini_lib.registry._METHODS", {"transposed": replace(excused, explain=one_picture("unsaved", unsaved))})
    assert cli.main(["check", "transposed", "--json"]) == 1
    data = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    part = data["checked"]["transposed"]
    assert part["total"] == len(part["findings"]) == part["passed"] + part["failed"] + part["excused"]
    assert data["failed"] == part["failed"] == 2 and data["checked"]["load"]["failed"] == 0      # unsaved, and an idle excuse
    assert len(data["identities_at_load"]) == 4 and data["total"] == sum(row["total"] for row in data["checked"].values())
    assert {row["check"] for row in part["findings"] if row["error"] is None} >= {"check_result_can_be_saved"}


@pytest.mark.parametrize("argv, reason", [(["oclusion"], "did you mean 'occlusion'"), (["occlusion", "--all"], "--all runs every method")])
def test_a_name_that_is_not_there_is_refused_before_anything_is_loaded(capsys, monkeypatch, argv, reason):
    monkeypatch.setattr("mini_lib.cli._load", lambda model: pytest.fail("the model was loaded"))
    assert cli.main(["check", *argv]) == 2
    assert reason in capsys.readouterr().err
