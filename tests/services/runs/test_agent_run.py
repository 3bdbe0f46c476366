async def test_one(service, model_server) -> None:
    done = await service.run_agent("dialogue-specialist-001")
    print(done)
    for e in await service.events(done["executionId"]): print(e)
async def test_two(service, model_server) -> None:
    done = await service.run_agent("dialogue-specialist-001")
async def test_3(service, model_server) -> None:
    done = await service.run_department("story")
    for e in await service.events(done["executionId"]): print(e)
    print(done)
