"""From somebody's own model to a bundle: read the file, ask for what it does not tell, prove, measure, write.

::

    config.py   what people say, by options or in a TOML file
    source.py   what the file says; one reader for each form: onnx_file, torch_file, weights_file, hugging_face
    contract.py both together: what goes in, what comes out, and what is still missing
    tasks/      what each task wants to know
    kind.py     requests to tensors and outputs to responses, as the service will do it; kinds.py, any_tensors.py
    onnx_edit.py, torch_edit.py   scaling, layout, softmax and names become part of the graph
    rows.py     golden and test rows, given or drawn
    proof.py    what the service will do before it serves, and what is measured
    bundle.py   the whole way
"""
