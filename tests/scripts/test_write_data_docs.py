from scripts import write_data_docs


def test_the_page_about_data_is_up_to_date():
    assert write_data_docs.PATH.read_text(encoding="utf-8") == write_data_docs.render()
