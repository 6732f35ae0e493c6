
    @invariant()
    def nothing_acknowledged_is_lost(self):
        if self.house is None:
            return
        for name in NAMES:
            entry, status = self.book[name], self.house.desk.status(name)
            assert (status.status, status.client) == (entry.status, entry.client), name
            assert status.read_by == tuple(entry.read_by), name
            assert status.labels.keys() == entry.files.keys(), name
            for tag, (content, reader, is_sent) in entry.files.items():
                (path,) = self.house.store._labels.files_of(self.board.names[name], tag)
                assert path.read_bytes() == content, (name, tag)
                label = status.labels[tag]
                assert str(label.info.get("client_id", "")) == reader, (name, tag)
                if is_sent:
                    assert (label.seconds, label.checksum) == (60, f"SHA256:{hashlib.sha256(content).hexdigest()}")

    @invariant()
    def a_label_is_of_what_its_reader_was_given(self):
        if self.house is not None:
            done = {name: self.book[name].of for name in NAMES if self.book[name].status == "done"}
            assert self.board.annotated == done

    @invariant()
    def what_is_replayed_is_what_is_in_memory(self):
        if self.house is not None:
            assert read_log(self.house.state)[0] == self.board
            if self.board is not self.seen:
                self.seen, self.last = self.board, self.clock.ran

    @invariant()
    def monai_label_sees_the_same(self):
        if self.house is None:
            return
        store, labelled = self.house.store, {name for name in self.listed if FINAL in self.book[name].files}
        assert set(store.list_images()) == set(self.listed)
        assert set(store.get_labeled_images()) == labelled
        assert set(store.get_unlabeled_images()) == set(self.listed) - labelled
        for name in self.listed:
            assert store.get_labels_by_image_id(name).keys() == self.book[name].files.keys()
            for tag, (content, reader, _) in self.book[name].files.items():
                assert str(store.get_label_info(name, tag).get("client_id", "")) == reader
                assert Path(store.get_label_uri(name, tag)).read_bytes() == content

    @invariant()
    def the_status_tells_all_that(self):
        if self.house is None:
            return
        status = self.house.worklist.status()
        to_jsonable_python(status)
        assert status.n_labelled == sum(self.book[name].status == "done" for name in self.listed)
        assert {reader.client: reader.n_done for reader in status.readers if reader.n_done} == self.book.n_done()
        held = {study.study_id: reader.client for reader in status.readers for study in reader.studies}
        assert held == {name: self.book[name].client for name in NAMES if self.book[name].status == "reserved"}


CALM = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    max_examples=30,
    stateful_step_count=30,
)


def test_board_and_book_agree():
    run_state_machine_as_test(Machine, settings=CALM)
