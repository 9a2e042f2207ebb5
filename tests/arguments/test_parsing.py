import pytest

from internnav_hf.arguments.training import NavTrainingArguments, parse_arguments
from tests.training.arguments import Data


def read(*arguments):
    return parse_arguments((Data, NavTrainingArguments), list(arguments))


def read_file(tmp_path, text, *arguments):
    path = tmp_path / "run.yaml"
    path.write_text(f"data_root: here\nuse_cpu: true\nreport_to: none\n{text}")
    return read(str(path), *arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rate: fast", "learning_rate: found 'fast', expected a number"),
        ("learning_rate: [1, 2]", r"learning_rate: found \[1, 2\], expected a number"),
        ("learning_rate: {a: 1}", "learning_rate: found {'a': 1}, expected a number"),
        ("learning_rate: true", "learning_rate: found True, expected a number"),
        ("learning_rate: null", "learning_rate: found null, expected a number; leave the line out"),
        ("max_steps: 2.5", "max_steps: found 2.5, expected a whole number"),
        ("augment: perhaps", "augment: found 'perhaps', expected true or false"),
        ("augment: 2", "augment: found 2, expected true or false"),
        ("sizes: []", r"sizes: found \[\], expected a list of a whole number; it is empty"),
        ("sizes: [1, [2]]", "sizes: found .*, expected a whole number"),
        ("data_root: again", "line 4: data_root is given twice"),
        ("rate: 1\nrate: 2", "line 5: rate is given twice"),
        ("rate: !!python/name:os.system", "could not determine a constructor"),
        ("rate: !secret 3", "could not determine a constructor"),
        ("rate: [1", "run.yaml: line"),
        ("data_root2: no", "unknown field"),
        ("run_name: no", r"run_name: found False, expected text or null \(in quotes"),
        ("eval_steps: no", "eval_steps: found False, expected a number"),
        ("1: 2", "found the key 1, expected a name"),
    ],
)
def test_a_wrong_value_in_a_file_is_one_line_with_file_and_field(tmp_path, line, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_file(tmp_path, line)
    assert "\n" not in str(raised.value)
    assert "run.yaml" in str(raised.value)


def test_null_is_none_where_none_may_be(tmp_path):
    data, training = read_file(tmp_path, "limit: null\nsave_total_limit: null")
    assert data.limit is None
    assert training.save_total_limit is None
    assert read_file(tmp_path, "limit: null", "--limit", "3")[0].limit == 3.0


def test_values_of_the_right_type_pass(tmp_path):
    text = "rate: 1e-3\nmax_steps: 1e3\naugment: no\nsizes: 8\nresume_from_checkpoint: auto"
    data, training = read_file(tmp_path, text)
    assert (data.rate, data.sizes, data.augment) == (1e-3, [8], False)
    assert (training.max_steps, training.resume_from_checkpoint) == (1000, "auto")


def test_a_file_that_is_no_text_is_one_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"data_root: \xff\xfe")
    with pytest.raises(ValueError, match=r"run\.yaml: found .* at byte 11, expected UTF-8 text"):
        read(str(path))


def test_a_typo_in_the_name_of_the_file_is_told(tmp_path):
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(ValueError, match=r"no such file\. Did you mean '.*demo\.yaml'"):
        read(str(tmp_path / "demoo.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_root", "d", "run.yaml"], "found 'run.yaml', expected an option"),
        (["run.txt"], "found 'run.txt', expected an option .* or, first, a YAML file"),
        (["--data_rot", "d"], "unknown field 'data_rot'; did you mean 'data_root'"),
        (["--rate", "fast", "--data_root", "d"], "argument --rate: invalid float value: 'fast'"),
        ([], "the following arguments are required: --data_root"),
        (["--data_root", "d", "--learning_rate", "-1", "--use_cpu"], "learning_rate: found -1.0"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        read(*arguments)
    assert "\n" not in str(raised.value)


def test_an_option_that_is_given_twice_is_told(caplog):
    data, _ = read("--data_root", "d", "--use_cpu", "--rate", "1", "--rate=2")
    assert data.rate == 2.0
    assert "--rate is given twice: the last one counts" in caplog.text


def test_words_that_yaml_reads_as_true_or_false_are_the_words_again(tmp_path):
    text = "eval_strategy: no\nsave_strategy: no\nresume_from_checkpoint: true"
    _, training = read_file(tmp_path, text)
    assert (training.eval_strategy.value, training.save_strategy.value) == ("no", "no")
    assert training.resume_from_checkpoint == "True"


def test_reports_may_be_null(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data_root: here\nuse_cpu: true\nreport_to: null")
    assert read(str(path))[1].report_to == []


@pytest.mark.parametrize("option", ["data_root", "output_dir", "resume_from_checkpoint"])
@pytest.mark.parametrize("value", ["", " "])
def test_what_a_script_leaves_blank_is_refused(option, value):
    with pytest.raises(ValueError, match=f"^{option}: found '{value}', expected text"):
        read("--data_root", "here", "--use_cpu", f"--{option}={value}")
